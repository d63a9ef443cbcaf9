"""A network's layers and what flows between them, as TensorBoard's GRAPHS tab draws it.

torch's own ``add_graph`` traces with the deprecated TorchScript, takes up to seconds, and shows every constant; a
symbolic trace takes hundredths of a second and shows the layers alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from cnnbench.models.profile import eval_mode

if TYPE_CHECKING:
    from tensorboard.compat.proto.graph_pb2 import GraphDef


class _Layers(fx.Tracer):
    """A module without modules in it is a layer, whoever wrote it."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None or super().is_leaf_module(m, module_qualified_name)


def network_graph(network: nn.Module, image: torch.Tensor) -> GraphDef:
    """A node for each layer and each operation between layers, in the scopes of the modules that they are in.

    Args:
        network: is not changed.
        image: (1, C, H, W), for the shapes on the edges.

    Raises:
        Exception: of whatever kind, where what the network does depends on the images.
    """
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    with eval_mode(network):
        traced = fx.GraphModule(network, _Layers().trace(network))
        ShapeProp(traced).propagate(image)
    names: dict[fx.Node, str] = {}
    nodes = []
    for node in traced.graph.nodes:
        module = traced.get_submodule(node.target) if node.op == "call_module" else None
        name = wanted = _name(node, module)
        number = 1
        while name in names.values():
            number += 1
            name = f"{wanted}_{number}"
        names[node] = name
        nodes.append(_proto(node, name, module, [names[given] for given in node.all_input_nodes]))
    return GraphDef(node=nodes, versions=VersionDef(producer=22))


def _name(node: fx.Node, module: nn.Module | None) -> str:
    """``features/0/Conv2d``: the scope, and the layer's name, or its kind where it has but a number."""
    if node.op in ("placeholder", "output"):
        return "images" if node.op == "placeholder" else "logits"
    if module is not None:
        scope, _, last = str(node.target).rpartition(".")
        last = type(module).__name__ if last.isdigit() else last
    else:
        within = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        scope = within[-1] if within else ""
        last = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return "/".join([*filter(None, scope.split(".")), last])


def _proto(node: fx.Node, name: str, module: nn.Module | None, inputs: list[str]) -> Any:
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.node_def_pb2 import NodeDef
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    attributes = {}
    shape = getattr(node.meta.get("tensor_meta"), "shape", None)
    if shape is not None:
        sizes = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])
        attributes["_output_shapes"] = AttrValue(list=AttrValue.ListValue(shape=[sizes]))
    if module is not None:
        attributes["layer"] = AttrValue(s=(module.extra_repr() or "-").encode())
        attributes["parameters"] = AttrValue(i=sum(p.numel() for p in module.parameters()))
    kind = type(module).__name__ if module is not None else name.rsplit("/", 1)[-1]
    return NodeDef(name=name, op=kind, input=inputs, attr=attributes)
