"""What the official Python package says of objects and of parameters.

In: its classes and the text of its modules. Out: fields that are always there; names of parameters as the sandbox
writes them (`items[][price]`, `metadata{}`).
Always holds: nothing is listed here by hand.
"""

import ast
import functools
import importlib.util
import re
import typing


def members(found):
    """What an object holds, objects below it left as they are."""
    return {name: found[name] for name in found.to_dict()}


def always_there(found):
    """Names of the fields that an object's class declares and does not call optional."""
    held = members(found)
    if held.get("deleted"):
        return []
    names = required_of(type(found))
    if held.get("object") == "invoice" and held.get("billing_reason") == "upcoming":
        return [name for name in names if name != "id"]
    return names


@functools.cache
def required_of(kind):
    names = []
    for name, annotation in getattr(kind, "__annotations__", {}).items():
        if name.startswith("_") or name in ("OBJECT_NAME", "deleted"):
            continue
        if typing.get_origin(annotation) is typing.ClassVar:
            continue
        if type(None) in typing.get_args(annotation) or "Optional" in str(annotation):
            continue
        names.append(name)
    return names


@functools.cache
def parameter_names(where):
    """Names of all parameters of `stripe.params…:Class`."""
    module, name = where.split(":")
    source = importlib.util.find_spec(module).origin
    with open(source, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found = set()
    walk(classes, classes[name], "", found)
    return found


def walk(classes, node, prefix, found, depth=0):
    if depth > 8:
        return
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            walk(classes, classes[base.id], prefix, found, depth + 1)
    fields = [(field.target.id, ast.unparse(field.annotation)) for field in node.body if isinstance(field, ast.AnnAssign)]
    for field, annotation in fields:
        name = f"{prefix}[{field}]" if prefix else field
        found.add(name)
        if "Dict[" in annotation:
            found.add(name + "{}")
        is_list = re.search(r"List\[", annotation) is not None
        if is_list:
            found.add(name + "[]")
        for word in set(re.findall(r"\w+", annotation)):
            if word in classes:
                walk(classes, classes[word], name + "[]" if is_list else name, found, depth + 1)
