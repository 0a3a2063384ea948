"""Heads trained on what the target itself says: from prompts to a folder that `heads` loads.

May import `adapters` and `heads`; nothing else of the project. The way of the data:

    prompts            what users might ask: from a file, or written by the model itself
    answers              what the target answers, kept line by line so that a killed run goes on
    documents          texts that are learned from as they stand, in pieces
    gather             the target's hidden rows while it reads answers and documents
    store                those rows on disk
    live                 or on none: computed whenever they are read
    batches            texts of like length together; which ones are held out
    beginning          how each family begins
    warm_start           EAGLE heads before training: the target's own last layer, and the tokens it may draft
    unroll             training-time test: several guesses in a row, each against the target's own law
    objective          what is learned, by family
    trainer            epochs, schedule, checkpoints, and what is held out as the judge
    recipe             what kind of head, of how much data
    workshop           all of it in order, in one folder
    estimate           what it will take, from a trial of some seconds
"""
