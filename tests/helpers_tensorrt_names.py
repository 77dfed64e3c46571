"""Which names of TensorRT our sources use, found by reading them: every use with the class that it is used on.

What a variable holds follows from what is assigned to it: ``trt`` (a name, or an attribute ``.trt``) is the module,
``trt.Builder(...)`` a Builder, ``builder.create_network(...)`` an INetworkDefinition, and so on through
``RETURNS``. Where that ends (a parameter without a type or with ``Any``, the result of a helper that was handed an
object of TensorRT's), the name tells: sources call these objects by the names in ``CONVENTION``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MODULE = "module"
CONVENTION = {
    "trt": MODULE, "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser",
    "config": "IBuilderConfig", "profile": "IOptimizationProfile", "cache": "ITimingCache", "measured": "ITimingCache",
    "runtime": "Runtime", "engine": "ICudaEngine", "context": "IExecutionContext", "inspector": "EngineInspector",
    "plan": "IHostMemory", "tensor": "ITensor", "error": "ParserError",
}  # fmt: skip
"""What a variable of that name holds where nothing else tells."""

RETURNS = {
    "Builder.create_network": "INetworkDefinition",
    "Builder.create_builder_config": "IBuilderConfig",
    "Builder.create_optimization_profile": "IOptimizationProfile",
    "Builder.build_serialized_network": "IHostMemory",
    "INetworkDefinition.get_input": "ITensor",
    "INetworkDefinition.get_output": "ITensor",
    "OnnxParser.get_error": "ParserError",
    "IBuilderConfig.create_timing_cache": "ITimingCache",
    "IBuilderConfig.get_timing_cache": "ITimingCache",
    "ITimingCache.serialize": "IHostMemory",
    "Runtime.deserialize_cuda_engine": "ICudaEngine",
    "ICudaEngine.create_execution_context": "IExecutionContext",
    "ICudaEngine.create_engine_inspector": "EngineInspector",
    "ICudaEngine.serialize": "IHostMemory",
    "IExecutionContext.engine": "ICudaEngine",
    "ITensor.dtype": "value DataType",
    "ICudaEngine.get_tensor_dtype": "value DataType",
    "ICudaEngine.get_tensor_mode": "value TensorIOMode",
    "ICudaEngine.get_tensor_location": "value TensorLocation",
    "ICudaEngine.get_tensor_format": "value TensorFormat",
}
_PLAIN_TYPES = ("Any", "object", "")


@dataclass(frozen=True)
class Use:
    """One use of a name: ``owner`` is a class of TensorRT, ``module``, or ``value X`` for a member of enumeration X.

    ``call``: the numbers of positional arguments and the keywords, where it is called without ``*`` or ``**``.
    ``literals``: positions and keywords of arguments that are plain integers.
    """

    file: str
    line: int
    owner: str
    name: str
    stored: bool = False
    call: tuple[int, tuple[str, ...]] | None = None
    literals: tuple[int | str, ...] = ()


@dataclass
class _Scope:
    names: dict[str, str | None] = field(default_factory=dict)
    parent: _Scope | None = None

    def get(self, name: str) -> str | None:
        if name in self.names:
            return self.names[name]
        return self.parent.get(name) if self.parent is not None else None


def uses(path: Path, name: str, classes: set[str]) -> list[Use]:
    """Every use of a name of TensorRT in a file; none where the file never speaks of ``trt``.

    Args:
        path: the source.
        name: what the uses are reported under.
        classes: names of all classes and enumerations of any version.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    words |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    words |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    if "trt" not in words and "tensorrt" not in words:
        return []
    reader = _Reader(name, classes)
    reader.read(tree)
    return list(dict.fromkeys(reader.found))


class _Reader:
    def __init__(self, file: str, classes: set[str]) -> None:
        self.file = file
        self.classes = classes
        self.found: list[Use] = []
        self.fields: dict[str, str | None] = {}

    def read(self, tree: ast.Module) -> None:
        # Attributes of self are assigned in one method and used in another: what they hold is learnt first.
        for _ in range(2):
            self.found.clear()
            self._block(tree.body, _Scope())

    # Statements ------------------------------------------------------------------------------------------------------

    def _block(self, body: list[ast.stmt], scope: _Scope) -> None:
        for statement in body:
            self._statement(statement, scope)

    def _statement(self, node: ast.stmt, scope: _Scope) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = _Scope(parent=scope)
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                plain = argument.annotation is None or ast.unparse(argument.annotation) in _PLAIN_TYPES
                inner.names[argument.arg] = CONVENTION.get(argument.arg) if plain else None
            self._block(node.body, inner)
        elif isinstance(node, ast.ClassDef):
            for base in node.bases:
                self._type(base, scope)
            self._block(node.body, scope)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                scope.names[bound] = MODULE if alias.name in ("tensorrt", "tensorrt_rtx") else None
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Tuple)
            and isinstance(node.value, ast.Tuple)
        ):
            for target, value in zip(node.targets[0].elts, node.value.elts, strict=False):
                self._bind(target, self._named(target, self._type(value, scope), value, scope), scope)
        elif isinstance(node, ast.Assign):
            kind = self._type(node.value, scope)
            for target in node.targets:
                self._bind(target, self._named(target, kind, node.value, scope), scope)
        elif isinstance(node, ast.AnnAssign):
            kind = self._type(node.value, scope) if node.value is not None else None
            if node.value is not None:
                self._bind(node.target, self._named(node.target, kind, node.value, scope), scope)
        elif isinstance(node, ast.For):
            self._bind(node.target, _element(self._type(node.iter, scope)), scope)
            self._block([*node.body, *node.orelse], scope)
        else:
            for child in ast.iter_child_nodes(node):
                self._child(child, scope)

    def _child(self, child: ast.AST, scope: _Scope) -> None:
        if isinstance(child, ast.stmt):
            self._statement(child, scope)
        elif isinstance(child, ast.expr):
            self._type(child, scope)
        elif isinstance(child, ast.withitem):
            kind = self._type(child.context_expr, scope)
            if child.optional_vars is not None:
                self._bind(child.optional_vars, kind, scope)
        else:
            for inner in ast.iter_child_nodes(child):
                self._child(inner, scope)

    def _bind(self, target: ast.expr, kind: str | None, scope: _Scope) -> None:
        if isinstance(target, ast.Name):
            scope.names[target.id] = kind
        elif isinstance(target, ast.Attribute):
            owner = self._type(target.value, scope)
            if owner is not None:
                self._use(target, owner, stored=True)
            elif isinstance(target.value, ast.Name) and target.value.id == "self":
                self.fields[target.attr] = kind or self.fields.get(target.attr)
        elif isinstance(target, ast.Tuple | ast.List):
            for one in target.elts:
                self._bind(one, None, scope)

    def _named(self, target: ast.expr, kind: str | None, value: ast.expr, scope: _Scope) -> str | None:
        """What a target holds: what was assigned, else what its name says where a helper was handed TensorRT's."""
        name = target.id if isinstance(target, ast.Name) else getattr(target, "attr", "").lstrip("_")
        if kind is not None or name not in CONVENTION or not isinstance(value, ast.Call):
            return kind
        if isinstance(value.func, ast.Name) and value.func.id.lstrip("_")[:1].isupper():
            return None  # an object of a class of ours
        handed = [self._type(argument, scope) for argument in value.args]
        return CONVENTION[name] if any(one is not None for one in handed) else None

    # Expressions -----------------------------------------------------------------------------------------------------

    def _type(self, node: ast.expr | None, scope: _Scope) -> str | None:
        """What an expression holds, noting every use inside it."""
        if node is None:
            return None
        if isinstance(node, ast.Name):
            return scope.get(node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, scope)
        if isinstance(node, ast.Call):
            return self._call(node, scope)
        if isinstance(node, ast.IfExp):
            self._type(node.test, scope)
            return self._type(node.body, scope) or self._type(node.orelse, scope)
        if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            return self._comprehension(node, scope)
        if isinstance(node, ast.Subscript):
            self._type(node.slice, scope)
            return _element(self._type(node.value, scope))
        if isinstance(node, ast.BinOp):
            left, right = self._type(node.left, scope), self._type(node.right, scope)
            return left if left is not None and left == right and left.endswith("[]") else None
        if isinstance(node, ast.Compare):
            self._compare(node, scope)
            return None
        if isinstance(node, ast.Lambda):
            # As what it gives: helpers are handed calls to make.
            return self._type(node.body, _Scope(dict.fromkeys(a.arg for a in node.args.args), scope))
        if isinstance(node, ast.NamedExpr):
            kind = self._named(node.target, self._type(node.value, scope), node.value, scope)
            self._bind(node.target, kind, scope)
            return kind
        for child in ast.iter_child_nodes(node):
            self._child(child, scope)
        return None

    def _attribute(self, node: ast.Attribute, scope: _Scope, call: ast.Call | None = None) -> str | None:
        if isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr in self.fields:
            return self.fields[node.attr]
        owner = self._type(node.value, scope)
        if owner is None:
            return MODULE if node.attr == "trt" else None
        self._use(node, owner, call=call)
        if owner == MODULE:
            return f"class {node.attr}" if node.attr in self.classes else None
        if owner.startswith("class "):
            return f"value {owner[6:]}"
        return RETURNS.get(f"{owner}.{node.attr}") if call is None else None

    def _call(self, node: ast.Call, scope: _Scope) -> str | None:
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            self._type(argument.value if isinstance(argument, ast.Starred) else argument, scope)
        if isinstance(node.func, ast.Attribute):
            owner = self._type(node.func.value, scope)
            kind = self._attribute(node.func, scope, node)
            if owner == MODULE and kind is not None:
                return kind.removeprefix("class ")
            if node.func.attr == "tensorrt" and owner is None:
                return MODULE  # library.tensorrt()
            return RETURNS.get(f"{owner}.{node.func.attr}")
        kind = self._type(node.func, scope)
        if kind in RETURNS.values():  # a method that was kept in a variable
            return kind
        if isinstance(node.func, ast.Name) and node.func.id in ("list", "tuple", "sorted", "reversed") and node.args:
            return self._type(node.args[0], scope)
        return kind.removeprefix("class ") if kind is not None and kind.startswith("class ") else None

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, scope: _Scope
    ) -> str | None:
        inner = _Scope(parent=scope)
        for generator in node.generators:
            self._bind(generator.target, _element(self._type(generator.iter, inner)), inner)
            for test in generator.ifs:
                self._type(test, inner)
        if isinstance(node, ast.DictComp):
            self._type(node.key, inner)
            self._type(node.value, inner)
            return None
        kind = self._type(node.elt, inner)
        return f"{kind}[]" if kind is not None else None

    def _compare(self, node: ast.Compare, scope: _Scope) -> None:
        """A member compared with a number is noted as a use of ``<number>``, which no enumeration has."""
        sides = [node.left, *node.comparators]
        kinds = [self._type(side, scope) for side in sides]
        for kind in kinds:
            if kind is not None and kind.startswith("value ") and any(_integer(side) for side in sides):
                self.found.append(Use(self.file, node.lineno, kind, "<number>"))

    def _use(self, node: ast.Attribute, owner: str, *, stored: bool = False, call: ast.Call | None = None) -> None:
        if owner.endswith("[]"):
            return
        counted = None
        literals: list[int | str] = []
        if call is not None:
            open_ended = any(isinstance(a, ast.Starred) for a in call.args) or any(not k.arg for k in call.keywords)
            counted = None if open_ended else (len(call.args), tuple(k.arg or "" for k in call.keywords))
            literals += [number for number, argument in enumerate(call.args) if _integer(argument)]
            literals += [keyword.arg for keyword in call.keywords if keyword.arg and _integer(keyword.value)]
        if call is not None:  # the same node is also seen as an attribute
            self.found = [u for u in self.found if not (u.line == node.lineno and u.name == node.attr and not u.call)]
        self.found.append(Use(self.file, node.lineno, owner, node.attr, stored, counted, tuple(literals)))


def _element(kind: str | None) -> str | None:
    return kind[:-2] if kind is not None and kind.endswith("[]") else None


def _integer(node: ast.expr) -> bool:
    """A number written out, also ``1 << 3``."""
    if isinstance(node, ast.BinOp):
        return _integer(node.left) and _integer(node.right)
    if isinstance(node, ast.UnaryOp):
        return _integer(node.operand)
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and not isinstance(node.value, bool)


def attributes(path: Path) -> Iterator[tuple[str, int]]:
    """Every attribute's name in a file, of whatever object, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
