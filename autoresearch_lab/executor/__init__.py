"""Where the steps `verify` and `bench` are carried out: in this process, or by workers on the machines of a cluster.

executor (what orchestrate asks of an executor, and the local one); cluster (the one over workers) over admission
(which nodes may work), tasks (what travels, and how a reply enters the ledger) and transport (Ray); worker is the side
on the node. Only plain data travels: dictionaries, text, numbers, bytes.
"""
