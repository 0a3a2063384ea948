"""The `head` method: Medusa or EAGLE heads in PyTorch, loaded, checked against the target and made to draft.

Knows which drafter serves which family. torch is imported here, and only when a head is used.
"""

from typing import TYPE_CHECKING

from adapters.target import HiddenTaps
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.eagle import EagleDrafter
from orchestrator.drafters.medusa import MedusaDrafter
from orchestrator.drafters.setup import Setup
from orchestrator.errors import ConfigError
from orchestrator.extras import require_torch

if TYPE_CHECKING:
    from heads.network import Network
    from heads.spec import Head

MAX_DRAFT = 6  # tokens, unless the user says otherwise; the planner asks for fewer where that is better


def build(setup: Setup) -> Drafter:
    """The drafter of `setup.head`; HeadError where it does not fit the target."""
    if setup.head is None:
        raise ConfigError(
            "method='head' needs a head: give head='a-folder', head='owner/repo' or head='auto'"
        )
    require_torch()
    import torch

    from adapters.llama_hidden import tap_way
    from heads.checkpoint import load_head
    from heads.choice import chosen_head
    from heads.fit import check_fit
    from heads.spec import EagleSpec

    model = setup.target
    head = load_head(chosen_head(setup.head, model.path), **setup.hub)
    check_fit(head, model, layer_inputs=tap_way(model.architecture) != "none")
    if setup.head_settings.head_threads is not None:
        torch.set_num_threads(setup.head_settings.head_threads)
    network, by_ggml = _network(setup, head)
    if isinstance(head.spec, EagleSpec):
        return _eagle(setup, network, head, by_ggml)
    return _medusa(setup, network)


def _network(setup: Setup, head: "Head") -> "tuple[Network, bool]":
    """The network, and whether ggml computes its steps."""
    import torch

    from adapters.devices import on_gpu
    from heads.device import choose_device, choose_dtype, choose_ggml
    from heads.frequent import frequent_tokens
    from heads.network import network_of
    from heads.target_weights import TargetWeights

    settings, model = setup.head_settings, setup.target
    device = choose_device(settings.head_device, on_gpu=on_gpu(model.settings))
    by_ggml = choose_ggml(settings.head_dtype, device, head.spec)
    dtype = torch.bfloat16 if by_ggml else choose_dtype(settings.head_dtype, device)
    wanted, n_vocab = settings.head_vocab, model.n_vocab
    vocabulary = None if wanted is None else frequent_tokens(wanted, n_vocab)
    borrowed = torch.bfloat16 if dtype == torch.int8 else dtype
    weights = TargetWeights(model.path, borrowed, progress=setup.progress)
    made = network_of(head, weights, dtype, device, vocabulary=vocabulary, n_vocab=n_vocab, in_blocks=by_ggml)
    return made, by_ggml


def _eagle(setup: Setup, network: "Network", head: "Head", by_ggml: bool) -> EagleDrafter:
    from heads.draft_state import DraftState
    from heads.eagle import Eagle
    from heads.fit import taps_of

    assert isinstance(network, Eagle)
    if setup.head_settings.tree != "auto":
        raise ConfigError(
            "tree= names a tree of Medusa heads; an EAGLE tree grows: use max_leaves, tree_depth"
        )
    layers = taps_of(head, setup.target.n_layer)
    chosen = setup.head_settings.head_taps
    if chosen and len(chosen) != len(layers):
        raise ConfigError(f"head_taps names {len(chosen)} layers, this head reads {len(layers)}")
    n_threads = setup.head_settings.head_threads or setup.context.threads[0]
    return EagleDrafter(
        DraftState(network, setup.head_settings.head_window, ggml_threads=n_threads if by_ggml else 0),
        HiddenTaps(layers=chosen or layers) if layers else HiddenTaps(post_norm=True),
        name=head.spec.family,
        max_draft=setup.speculation.max_draft or MAX_DRAFT,
        leaves=setup.speculation.max_leaves,
        depth=setup.head_settings.tree_depth,
        p_min=setup.speculation.draft_p_min,
    )


def _medusa(setup: Setup, network: "Network") -> MedusaDrafter:
    from heads.medusa import Medusa
    from heads.medusa_state import MedusaState
    from heads.trees import named_tree

    assert isinstance(network, Medusa)
    settings = setup.head_settings
    if settings.head_vocab is not None or settings.head_taps or settings.head_window:
        raise ConfigError("head_vocab, head_taps and head_window are for EAGLE heads; leave them out")
    tree = named_tree(setup.head_settings.tree)
    return MedusaDrafter(
        MedusaState(network),
        max_draft=setup.speculation.max_draft or MAX_DRAFT,
        leaves=setup.speculation.max_leaves,
        tree=None if isinstance(tree, str) else tree,
    )
