"""References and file names: what is one, which label it carries, which model is meant."""

import pytest

from adapters.errors import ModelNotFound
from adapters.hub_names import HubFile, HubReference, choose_gguf, is_inside, parse_reference

REPO = "owner/repo"


def choose(text: str, *names: str) -> tuple[str, ...]:
    reference = parse_reference(text)
    assert reference is not None
    return choose_gguf(reference, [HubFile(name, 1_500_000_000) for name in names], REPO)


def complaint(text: str, *names: str) -> str:
    with pytest.raises(ModelNotFound) as caught:
        choose(text, *names)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/repo", HubReference(REPO)),
        ("bartowski/Llama-3.2-1B_x-GGUF", HubReference("bartowski/Llama-3.2-1B_x-GGUF")),
        ("owner/repo:Q4_K_M", HubReference(REPO, quant="Q4_K_M")),
        ("owner/repo:UD-Q3_K_XL", HubReference(REPO, quant="UD-Q3_K_XL")),
        ("owner/model.gguf:Q8_0", HubReference("owner/model.gguf", quant="Q8_0")),
        ("owner/repo/m.gguf", HubReference(REPO, file="m.gguf")),
        ("owner/repo/Q8_0/m 1.GGUF", HubReference(REPO, file="Q8_0/m 1.GGUF")),
    ],
)
def test_forms_of_a_reference(text: str, expected: HubReference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model.gguf",
        "repo:Q4_K_M",
        "folder/model.gguf",
        "/owner/repo",
        "./owner/repo.gguf",
        "../owner/repo/m.gguf",
        "~/models/m.gguf",
        "C:/models/m.gguf",
        "models\\sub/m.gguf",
        "owner/repo/",
        "owner//m.gguf",
        "owner/repo/readme.md",
        "owner/repo/../../m.gguf",
        "owner/repo/m.gguf:Q4_K_M",
        "owner/repo:",
        "owner/repo:Q4 K",
        "owner/re--po",
        "owner/-repo",
        "owner/repo.git",
        "owner/répo",
        "https://huggingface.co/owner/repo",
    ],
)
def test_other_texts_are_no_reference(text: str) -> None:
    assert parse_reference(text) is None


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("m-Q4_K_M.gguf", "Q4_K_M"),
        ("m.Q4_K_M.gguf", "Q4_K_M"),
        ("m_q4_k_m.gguf", "Q4_K_M"),
        ("Q4_K_M/m-00001-of-00002.gguf", "Q4_K_M"),
        ("m-Q4_K-00001-of-00002.gguf", "Q4_K"),
        ("m-IQ4_NL.gguf", "IQ4_NL"),
        ("m.i1-IQ3_XXS.gguf", "IQ3_XXS"),
        ("BF16/m-BF16.gguf", "BF16"),
        ("m-UD-Q3_K_XL.gguf", "UD-Q3_K_XL"),
        ("qwen2.5-0.5b-instruct-fp16.gguf", "FP16"),
        ("gpt-20b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("m-TQ1_0.gguf", "TQ1_0"),
        ("m-Q4_0_4_4.gguf", "Q4_0_4_4"),
        ("m-Q4_K_M-imat.gguf", "Q4_K_M"),
        ("Qwen3-8B.gguf", None),
        ("m-Q8bit.gguf", None),
        ("mmproj-m-F16.gguf", None),
        ("m.mmproj-Q8_0.gguf", None),
        ("Q8_0/m-imatrix.gguf", None),
        ("m-Q4_K_M.safetensors", None),
    ],
)
def test_label_in_a_file_name(name: str, label: str | None) -> None:
    assert HubFile(name, None).quant == label


@pytest.mark.parametrize("name", ["../m.gguf", "a/../../m.gguf", "/m.gguf", "a\\m.gguf", "C:m"])
def test_names_that_leave_the_folder_are_recognised(name: str) -> None:
    assert not is_inside(name)
    assert is_inside("a/..m.gguf")


def test_quant_is_a_whole_label_in_any_case() -> None:
    names = ["m-Q4_K.gguf", "m-Q4_K_M.gguf", "m-IQ4_K.gguf", "m-UD-Q4_K.gguf"]
    assert choose("owner/repo:q4_k", *names) == ("m-Q4_K.gguf",)
    assert "has no Q4;" in complaint("owner/repo:Q4", *names)


def test_unknown_quant_lists_what_there_is_with_sizes() -> None:
    text = complaint("owner/repo:Q9", "m-Q8_0.gguf", "m-Q4_0.gguf", "mmproj-F16.gguf", "README")
    assert text == ("owner/repo has no Q9; it has:\n  owner/repo:Q4_0 (1.5 GB)\n  owner/repo:Q8_0 (1.5 GB)")


def test_list_ends_after_twenty() -> None:
    text = complaint("owner/repo/x.gguf", *(f"m{number:02}.gguf" for number in range(23)))
    assert "repo/m19.gguf" in text and "m20" not in text
    assert text.endswith("\n  and 3 more")


def test_without_quant_the_only_model_is_meant() -> None:
    assert choose("owner/repo", "m.gguf", "mmproj-m.gguf", "config.json") == ("m.gguf",)


def test_without_quant_the_usual_one_is_meant() -> None:
    assert choose("owner/repo", "m-Q8_0.gguf", "m-q4_k_m.gguf") == ("m-q4_k_m.gguf",)


def test_without_quant_and_without_the_usual_one_the_user_must_say() -> None:
    text = complaint("owner/repo", "m-Q8_0.gguf", "m-Q4_0.gguf")
    assert text.startswith("owner/repo has 2 models and none in Q4_K_M; say which:\n")


def test_repository_without_gguf_says_so() -> None:
    assert "has no GGUF model" in complaint("owner/repo:Q8_0", "model.safetensors")


def test_ambiguous_quant_lists_texts_that_select_one_each() -> None:
    names = ["a-Q8_0.gguf", "b-Q8_0.gguf", "c-Q4_0.gguf"]
    menu = complaint("owner/repo:Q8_0", *names).split("\n")[1:]
    typed = [line.strip().removesuffix(" (1.5 GB)") for line in menu]
    assert [choose(text, *names) for text in typed] == [("a-Q8_0.gguf",), ("b-Q8_0.gguf",)]


def test_any_part_stands_for_the_whole_split_model() -> None:
    parts = ("Q8_0/m-00001-of-00002.gguf", "Q8_0/m-00002-of-00002.gguf")
    assert choose("owner/repo/Q8_0/m-00002-of-00002.gguf", *parts) == parts
    assert choose("owner/repo:Q8_0", *reversed(parts)) == parts


def test_missing_part_is_named() -> None:
    text = complaint("owner/repo:Q8_0", "m-Q8_0-00001-of-00002.gguf")
    assert text == ("owner/repo lacks parts of m-Q8_0-00001-of-00002.gguf:\n  m-Q8_0-00002-of-00002.gguf")


def test_impossible_part_number_is_an_ordinary_name() -> None:
    assert choose("owner/repo", "m-00003-of-00002.gguf") == ("m-00003-of-00002.gguf",)
