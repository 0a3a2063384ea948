"""`pilotfish serve`: one engine behind OpenAI's HTTP interface, and a page to talk with it.

    settings  address, key and limits            refusal   errors, in OpenAI's shape
    gate      who may ask                        body      JSON out of a request's bytes
    line      who waits, first come first served job       one request's generation
    service   from a call to a response          events    a response that comes in pieces
    sources   who guessed which words            metrics   what Prometheus reads
    api       the routes                         serving   the server's start and its end
    page      the folder of the page at /

Nothing here decodes: a request becomes a call of the engine (orchestrator.openai), in the one thread that
uses it. Needs the extra `serve`.
"""
