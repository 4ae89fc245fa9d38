"""Door to the list of packages that a bare machine needs: python -m benchmarks.gpu.packages [--without torch,...]"""

from autoresearch_lab.campaign.gpu.packages import main

if __name__ == "__main__":
    main()
