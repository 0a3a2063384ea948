"""Files of a repository on the Hub, named or matched as Llama.from_pretrained does it."""

from fnmatch import fnmatch
from pathlib import Path

from orchestrator.compat.errors import NotHonoured


def gguf_on_the_hub(repo_id: str, filename: str | None) -> str:
    """The name by which Engine.load fetches it; a pattern must match one file, or the parts of one model."""
    if not filename:
        raise NotHonoured("filename is missing: give the name of a GGUF in the repository, or a pattern")
    if not any(sign in filename for sign in "*?["):
        return f"{repo_id}/{filename}"
    from adapters.gguf_header import part_of
    from adapters.hub import list_ggufs

    names = sorted(file.name for file in list_ggufs(repo_id))
    matching = [name for name in names if fnmatch(name, filename)]
    first = [name for name in matching if (part_of(Path(name)) or (1, 1))[0] == 1]
    if len(first) != 1:
        listed = "".join(f"\n  {name}" for name in (matching or names))
        problem = "several files match" if matching else "no file matches"
        raise NotHonoured(f"{repo_id}: {problem} {filename!r}; give one of{listed}")
    return f"{repo_id}/{first[0]}"
