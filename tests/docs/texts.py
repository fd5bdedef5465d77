"""The texts of the documentation, and the files that their examples tell a reader to save."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

#: The text of each page, by its path below the project.
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    if "_build" not in path.parts
}
README = PAGES["README.md"]


def blocks(text, language):
    """The code blocks of a text in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def example_files(page="README.md"):
    """The files that the examples of a page have a reader save, by path; YAML of groups goes to one folder, `my_conf`.

    A path stands in the first line of a block, as a comment, or in backticks in the sentence before it.
    """
    path = r"[\w/]+\.(?:py|yaml)"
    files, parts = {}, re.split(r"^```(?:python|yaml)\n(.*?)^```$", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    for before, block in zip(parts[::2], parts[1::2], strict=False):
        named = re.match(rf"# ({path})\n", block) or re.search(rf"`({path})`[^\n]*\n?[^\n]*\n\n$", before)
        if named:
            files[re.sub(r"^conf/", "my_conf/", named[1])] = block
    if page == "README.md":  # the one that a sentence describes
        files["my_conf/env/agreement.yaml"] = "_target_: my_envs.agreement.Agreement\n"
    return files
