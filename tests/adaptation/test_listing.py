from pathlib import Path

from merc import files
from merc.adaptation.listing import write_lists
from merc.layout import Layout
from merc.params import Params


def test_each_modality_has_a_list_of_what_is_fine_tuned_on_the_dataset(tmp_path: Path) -> None:
    runs = {
        "one": {"dataset": "here", "encoder": "minilm", "settings": "full"},
        "two": {"dataset": "elsewhere", "encoder": "minilm", "settings": "full"},
    }
    layout = Layout(tmp_path / "raw", tmp_path / "features", "here")
    write_lists(Params({"adapt_text": runs, "adapt_audio": {}}), layout)
    assert files.read_json(layout.folder / "adapted" / "text" / "list.json") == {
        "one": {"encoder": "minilm", "settings": "full"}
    }
    assert files.read_json(layout.folder / "adapted" / "audio" / "list.json") == {}
