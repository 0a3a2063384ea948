"""PyTorch heads (Medusa, EAGLE) that draft from a target's hidden states.

May import `adapters`; nothing else of the project. torch comes with the extra `heads`; `choice`, `pairs`,
`shipped`, `spec`, `rope_config`, `trees` and `medusa_presets` do without it. A head's way from a name to
guesses:

    choice             what a name means: `auto`, `default`, or itself
    pairs                which published heads belong to a target
    shipped              the heads that come with pilotfish
    files              a folder, a file or a Hub repository to a config and tensors
    tensor_files         one file of tensors
    checkpoint         which family a checkpoint is, and its canonical form
    reading              tensors while they are read, and what is wrong with them
    medusa_layouts       Medusa's published layouts
    eagle_layouts        EAGLE-1, EAGLE-2 and HASS
    eagle3_layouts       EAGLE-3: taps, fusion, flags
    vocabulary           rows of a projection to token ids of the target
    rope_config          rotary positions as configs describe them
    spec               the canonical form: sizes, flags, names of tensors
    fit                whether it fits a target, and what it takes in memory
    target_weights     what a head borrows: embedding, projection and final norm out of the GGUF
    frequent           the tokens that a head may draft, where it has all of the target's
    device             where it runs, and in which numbers
    network            from all of these to a network
    medusa               Medusa's forward pass
    eagle, eagle3        theirs
    layer, norm          a decoder layer, and its norms
    matrix               weights as they are multiplied
    stacking             weights on top of each other, and pages of mapped files
    rope                 angles
    draft_cache        keys and values: what is settled, and a tree behind it
    draft_state        what an EAGLE network has read, and the tree that it grows
    passes               rows through an EAGLE network, by PyTorch
    ggml_pass            few rows, by graphs of llama.cpp's ggml
    ggml_network         the network as such a graph
    medusa_state       the newest row, and what Medusa's heads make of it
    trees              shapes: which nodes to guess, given ranks or scores
    medusa_presets       the trees that Medusa publishes

and back out of the house again:

    export             a head's folder in the layouts that others read
    export_layouts       names of tensors
    export_config        numbers of config.json
    export_gguf        llama.cpp's EAGLE-3 file
    training           making new ones: a package of its own

The drafters that use them are in `orchestrator.drafters`: head, medusa, eagle.
"""
