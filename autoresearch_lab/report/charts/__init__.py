"""The charts of the report: Plotly figures whose colours are the page's own CSS variables.

The page's script puts the values in, so that one figure serves the light and the dark scheme and the printer.
"""
