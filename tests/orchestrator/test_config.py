import pytest

from orchestrator.config import Config, override
from orchestrator.errors import ConfigError
from orchestrator.sampling import Sampling


def test_flat_settings_find_their_group():
    config = Config.of(n_ctx=1024, temperature=0.0, ngram_min=2, n_gpu_layers=5)
    assert config.context.n_ctx == 1024
    assert config.sampling.temperature == 0
    assert config.speculation.ngram_min == 2
    assert config.model.n_gpu_layers == 5


def test_no_setting_belongs_to_two_groups():
    from dataclasses import fields

    config = Config()
    names = [f.name for group in fields(Config) for f in fields(getattr(config, group.name))]
    assert len(names) == len(set(names))


def test_an_unknown_setting_names_the_closest_one():
    with pytest.raises(ConfigError, match="unknown setting 'temprature'; did you mean temperature"):
        Config.of(temprature=1)


def test_an_unknown_option_of_a_call_is_an_error():
    with pytest.raises(ConfigError, match="unknown setting 'max_token'; did you mean max_tokens"):
        override(Sampling(), {"max_token": 3})


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("rule", "magic", "rule must be one of coupled, rejection, block, got 'magic'"),
        ("max_draft", 0, "max_draft must be >= 1"),
        ("ngram_min", 0, "ngram_min must be >= 1, got 0"),
        ("draft_p_min", 2.0, "draft_p_min must be between 0 and 1, got 2.0"),
        ("n_ctx", -1, "n_ctx must be >= 0"),
        ("n_batch", 0, "n_batch must be >= 1, got 0"),
        ("n_ubatch", 1024, "n_ubatch must be between 1 and n_batch"),
        ("max_rows", 0, "max_rows must be between 1 and n_ubatch"),
        ("n_seq_max", 300, "n_seq_max must be between 1 and 64"),
        ("n_threads", 0, "n_threads must be between 1 and 512, got 0"),
        ("type_k", "q3_9", "type_k must be one of"),
        ("split_mode", "diagonal", "split_mode must be one of"),
        ("lora_scale", [1.0], "lora_scale has 1 values for 0 LoRA files"),
        ("temperature", -1, "temperature must be >= 0"),
        ("n_ctx", "many", "wrong type"),
        ("temperature", "hot", "wrong type"),
    ],
)
def test_an_impossible_value_is_named(setting, value, message):
    with pytest.raises(ConfigError, match=message):
        Config.of(**{setting: value})


def test_a_quantized_value_cache_needs_flash_attention():
    with pytest.raises(ConfigError, match="needs flash attention"):
        Config.of(type_v="q8_0", flash_attn=False)
