"""Reads templates of CloudFormation and modules of Terraform with other people's parsers and prints JSON.

    packs.py yaml FILE…     the templates; `!Ref x` is {"!Ref": "x"}
    packs.py hcl FILE…      the modules; here-documents as Terraform reads them
"""

import json
import sys
import textwrap


def templates(paths):
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def tagged(loader, tag, node):
        if isinstance(node, yaml.ScalarNode):
            value = loader.construct_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            value = loader.construct_sequence(node, deep=True)
        else:
            value = loader.construct_mapping(node, deep=True)
        return {"!" + tag: value}

    def unique(loader, node, deep=False):
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        if len(set(keys)) != len(keys):
            raise ValueError(f"a key twice in {keys}")
        return yaml.SafeLoader.construct_mapping(loader, node, deep)

    Loader.add_multi_constructor("!", tagged)
    Loader.construct_mapping = unique
    for path in paths:
        with open(path, encoding="utf-8") as file:
            yield yaml.load(file, Loader)


def here(text):
    lines = text.split("\n")
    begin, end = lines[0], lines[-1].strip()
    if not begin.startswith("<<-") or begin[3:] != end:
        raise ValueError(f"{text!r} is no here-document")
    body = textwrap.dedent("\n".join(lines[1:-1])) + "\n"
    return body.replace("$${", "${").replace("%%{", "%{")


def modules(paths):
    import hcl2

    def plain(value):
        if isinstance(value, dict):
            return {key.strip('"'): plain(inner) for key, inner in value.items() if not key.startswith("__")}
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        if isinstance(value, str):
            raw = value.strip('"') if value.startswith('"<<-') else value
            if raw.startswith("<<-"):
                return here(raw)
            if len(value) > 1 and value.startswith('"') and value.endswith('"'):
                return value[1:-1]
        return value

    for path in paths:
        with open(path, encoding="utf-8") as file:
            yield plain(hcl2.load(file))


if __name__ == "__main__":
    kind, *paths = sys.argv[1:]
    json.dump(list({"yaml": templates, "hcl": modules}[kind](paths)), sys.stdout)
