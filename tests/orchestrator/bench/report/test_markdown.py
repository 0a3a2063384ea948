"""Claims about the page of results."""

from orchestrator.bench.report.markdown import grid, markdown
from tests.orchestrator.bench.report.documents import (
    check,
    configuration,
    document,
    peer,
    protocol,
    provenance,
    score,
    swept,
)


def part(page: str, heading: str) -> str:
    """What stands between a heading and the next of any level."""
    return page.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]


def test_each_document_is_a_section_of_the_page() -> None:
    page = markdown([("Small model", document()), ("Large model", document())], "Results")
    headings = [line for line in page.splitlines() if line.startswith(("# ", "## "))]
    assert headings == ["# Results", "## Summary", "## Small model", "## Large model"]


def test_losses_have_a_section_that_names_configuration_suite_and_figure() -> None:
    losing = configuration(suites={"chat": score(0.8, (0.75, 0.86))})
    page = markdown([("One", document([losing]))], "Results")
    assert part(page, "### Losses").strip() == "- lookup, chat: x0.80 (0.75 to 0.86) of plain decoding"
    assert "| **loss** |" in part(page, "### lookup against plain")


def test_having_no_losses_is_said_too() -> None:
    assert "None: no interval" in part(markdown([("One", document())], "Results"), "### Losses")


def test_a_section_ends_with_a_command_that_can_be_pasted() -> None:
    page = markdown([("One", document())], "Results")
    assert page.endswith("```\npilotfish bench smollm2 --prompt 'two words'\n```\n")


def test_warnings_stand_before_the_provenance() -> None:
    doubtful = document([configuration(invalid_text="synthetic")], baseline_check=[check(0.7, ok=False)])
    before, _ = markdown([("One", doubtful)], "Results").split("- Date:")
    assert before.count("**Warning:**") == 2 and "synthetic" in before and "0.700" in before


def test_provenance_names_model_hash_commit_and_prompts_but_no_path_of_the_model() -> None:
    page = markdown([("One", document())], "Results")
    assert "`3d3d3d3d3d3d`" in page and "commit abc1234" in page and "code.jsonl (`1f1f1f1f1f1f`)" in page
    assert "/models/" not in page


def test_a_missing_commit_is_a_dash() -> None:
    page = markdown([("One", document(provenance=provenance(commit=None)))], "Results")
    assert "commit -, seed 0" in page


def test_every_sentence_of_the_protocol_is_printed() -> None:
    said = part(markdown([("One", document())], "Results"), "### Protocol")
    sentences = [text for text in protocol().values() if isinstance(text, str) and " " in text]
    assert len(sentences) == 5 and all(f"- {sentence}" in said for sentence in sentences)


def test_a_sweep_gets_a_compact_table_before_the_detailed_ones() -> None:
    page = markdown([("One", document([swept(1), swept(3), swept(7)]))], "Results")
    rows = [line for line in part(page, "### Sweep of max_draft").splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0] for row in rows] == ["| max_draft", "| ---", "| 1", "| 3", "| 7"]
    assert page.index("### Sweep") < page.index("### lookup max_draft=1 ")


def test_peers_have_tables_of_their_own() -> None:
    page = markdown([("One", document(peers=[peer("server")]))], "Results")
    assert "| overall | 80.0 |" in part(page, "### server (peer) against plain")


def test_a_pipe_in_a_cell_breaks_no_table() -> None:
    assert grid([("a", "b"), ("x|y", "1")]).splitlines()[-1] == "| x\\|y | 1 |"


def test_skipped_prompts_and_their_reasons_are_on_the_page() -> None:
    gap = {"baseline": "plain", "id": "rag/07", "reason": "does not fit the context"}
    assert "- Skipped: rag/07 (plain): does not fit" in markdown(
        [("One", document(skipped=[gap]))], "Results"
    )


def test_several_documents_begin_with_all_overall_figures() -> None:
    page = markdown([("One", document()), ("Two", document(peers=[peer("server")]))], "Results")
    summary = part(page, "## Summary")
    assert [row.split(" | ")[0] for row in summary.splitlines() if row.startswith("|")][2:] == [
        "| One: lookup",
        "| Two: lookup",
        "| Two: server",
    ]
    assert "## Summary" not in markdown([("One", document())], "Results")


def test_a_command_names_files_and_no_folders_of_the_machine() -> None:
    argv = ["/home/me/bin/pilotfish", "bench", "--suite", "bench/prompts", "--out", "/data/a.json"]
    page = markdown([("One", document(provenance=provenance(argv=argv)))], "Results")
    assert "pilotfish bench --suite bench/prompts --out a.json" in page and "/home" not in page
