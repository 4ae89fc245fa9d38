"""The A/B in the trainer: does this kernel make training faster here without harming what is learnt?"""
