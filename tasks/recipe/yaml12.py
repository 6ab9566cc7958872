"""YAML as version 1.2 reads it: `no` is text, `5e-5` a number, a key stands once; any version reads what is written."""

import math
import re
from collections.abc import Callable
from typing import Any, ClassVar

import yaml

PLAIN = {
    "tag:yaml.org,2002:null": r"(?:~|null|Null|NULL|)",
    "tag:yaml.org,2002:bool": r"(?:true|True|TRUE|false|False|FALSE)",
    "tag:yaml.org,2002:int": r"[-+]?[0-9]+",
    "tag:yaml.org,2002:float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?",
}
"""What an unquoted word may stand for besides text; infinity and NaN are left out, no recipe has a use for them."""


class YamlError(Exception):
    """Text that is not YAML: says where and why."""


class _Loader(yaml.SafeLoader):
    """Safe, with the scalars of YAML 1.2, without anchors; notes keys that stand twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        None: [(tag, re.compile(rf"{text}\Z")) for tag, text in PLAIN.items()]
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[str] = []

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One node; an alias is refused."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "write the value again, recipes have no anchors", mark)
        return super().compose_node(parent, index)

    def mapping(self, node: yaml.Node) -> dict[str, Any]:
        """A mapping whose keys are text."""
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, "this is not a mapping", node.start_mark)
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be one word", key.start_mark)
            if key.value in found:
                self.twice.append(f"{key.value}: stands twice, the second time in line {key.start_mark.line + 1}")
            found[key.value] = self.construct_object(value, deep=True)
        return found

    def sequence(self, node: yaml.Node) -> list[Any]:
        """A list."""
        return self.construct_sequence(node, deep=True)  # type: ignore[arg-type]

    def number(self, node: yaml.Node) -> int | float:
        """A finite number."""
        text = str(self.construct_scalar(node))  # type: ignore[arg-type]
        whole = node.tag.endswith(":int")
        if len(text) > 100 or not math.isfinite(float(text)):
            raise yaml.constructor.ConstructorError(None, None, "this number is out of range", node.start_mark)
        return int(text) if whole else float(text)

    def words(self, node: yaml.Node) -> str:
        """Text that can be written as UTF-8."""
        text = str(self.construct_scalar(node))  # type: ignore[arg-type]
        if re.search("[\ud800-\udfff]", text):
            raise yaml.constructor.ConstructorError(None, None, "half a character (a surrogate)", node.start_mark)
        return text

    def unknown(self, node: yaml.Node) -> None:
        """A tag such as !!python/object."""
        raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag} is not allowed", node.start_mark)

    yaml_constructors: ClassVar[dict[str | None, Callable[..., Any]]] = {
        "tag:yaml.org,2002:null": yaml.SafeLoader.construct_yaml_null,
        "tag:yaml.org,2002:bool": yaml.SafeLoader.construct_yaml_bool,
        "tag:yaml.org,2002:int": number,
        "tag:yaml.org,2002:float": number,
        "tag:yaml.org,2002:str": words,
        "tag:yaml.org,2002:seq": sequence,
        "tag:yaml.org,2002:map": mapping,
        None: unknown,
    }


class _Dumper(yaml.SafeDumper):
    """Lists of plain values in one line; text in quotes wherever YAML 1.1 or 1.2 would take it for something else."""

    def text(self, value: str) -> yaml.Node:
        """Text, quoted where needed (the parent knows what 1.1 needs)."""
        quoted = any(re.fullmatch(pattern, value) for pattern in PLAIN.values())
        return self.represent_scalar("tag:yaml.org,2002:str", value, style='"' if quoted else None)

    def items(self, value: list[Any]) -> yaml.Node:
        """A list; in one line if it holds no list or mapping."""
        nested = any(isinstance(item, (list, dict)) for item in value)
        return self.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=not nested)

    yaml_representers: ClassVar[dict[type[Any], Callable[..., yaml.Node]]] = {
        **yaml.SafeDumper.yaml_representers,
        str: text,
        list: items,
    }

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Writes every value out."""
        return True


def loads(text: str) -> tuple[Any, list[str]]:
    """The value that `text` stands for, and a sentence for every key that stands twice.

    Raises:
        YamlError: The text is not YAML, or uses tags, anchors or several documents.
    """
    try:
        loader = _Loader(text)
        value = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YamlError(f"{place}{error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        raise YamlError(f"character {error.position + 1} is not allowed in YAML") from error
    except RecursionError as error:
        raise YamlError("nested too deeply") from error
    return value, loader.twice


def dumps(value: Any) -> str:
    """`value` as YAML: keys in the order given, one per line."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=False)
