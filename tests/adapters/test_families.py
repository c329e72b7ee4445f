"""Proofs for the smallest member of every family: capture, layout, read-out, walk."""

from __future__ import annotations

import pytest
import torch

import visattn
from tests import zoo
from tests.methods import steps_oracle
from visattn.adapters import Chain, Refusal, Site, Step, TokenLayout, find_adapter
from visattn.images import Size
from visattn.methods import get_method
from visattn.observation import AttentionRecord, capture, observe, prove

MEMBERS = {
    **{name: zoo.Member(make) for name, make in zoo.VITS.items()},
    **zoo.FAMILIES,
}
MIXED = 0.5
EMPTY = torch.empty(0)
family = pytest.mark.parametrize("name", MEMBERS)


def record_of(name: str, inputs: torch.Tensor, **arguments: object) -> AttentionRecord:
    module = zoo.build(name).to(inputs.dtype)
    model = visattn.load_model(module, image_size=MEMBERS[name].size)
    return capture(model, inputs, **arguments)


def chain_of(name: str) -> Chain:
    chain = find_adapter(zoo.build(name)).chain(Size(*MEMBERS[name].size))
    assert isinstance(chain, Chain), chain.reason
    return chain


def all_steps(chain: Chain) -> list[Step]:
    return [*chain.steps, *([chain.pool] if chain.pool else [])]


@family
def test_the_capture_is_what_the_model_computed(name: str) -> None:
    proof = prove(zoo.build(name), zoo.images(2, MEMBERS[name].size))
    assert proof.holds, proof


@family
def test_every_operation_has_its_place(name: str) -> None:
    record = record_of(name, zoo.images(2, MEMBERS[name].size))
    chain = record.chain()
    placed = [p.operation for step in all_steps(chain) for p in step.placements]
    assert len(placed) == len(set(placed))
    assert set(placed) | set(chain.aside) == {operation.name for operation in record}
    assert not set(placed) & set(chain.aside)


@family
def test_re_indexing_conserves_relevance(name: str) -> None:
    chain = chain_of(name)
    for place, step in enumerate(chain.steps):
        if step.skip is not None:
            assert step.skip.size == (chain.after(place).tokens, step.before.tokens)
            assert_sums(step.skip.sums, (1,))
        assert step.skip is not None or step.placements
    for step in all_steps(chain):
        for placement in step.placements:
            assert_sums(placement.queries.sums, (0, 1))
            assert_sums(placement.keys.sums, (0, 1))
            assert placement.keys.size[1] == step.before.tokens
            assert bool((placement.queries.shares > 0).all())


def assert_sums(sums: torch.Tensor, allowed: tuple[int, ...]) -> None:
    nearest = torch.stack([(sums - value).abs() for value in allowed]).amin(dim=0)
    assert float(nearest.max()) < 1e-9


@family
def test_a_changed_patch_changes_most_the_tokens_placed_on_it(name: str) -> None:
    """Change one patch: the slot whose key or query changes most must lie on it.

    Behind the first attention tokens are mixed: there the slots on the patch must change at least
    `MIXED` times as much as the slot that changes most.
    """
    member, chain = MEMBERS[name], chain_of(name)
    patches = some_patches(chain.layout.grid)
    record = record_of(name, with_changed_patches(chain.layout, patches, member.size))
    wrong, mixed = [], False
    for step in all_steps(chain):
        for placement, places in steps_oracle.positions(chain, step):
            for operand in places:
                changes = steps_oracle.changes(record, placement, operand)
                if changes is None or not places[operand].any():
                    continue
                for patch, change in zip(patches, changes, strict=True):
                    if mixed and not places[operand][:, patch[0], patch[1]].any():
                        continue  # a patch that no slot reads; attention carries its change
                    share = share_of_change(places[operand], patch, change, member.reach)
                    if share < (MIXED if mixed else 1):
                        wrong.append(f"{placement.operation} {operand} {patch}: {share:.2f}")
        mixed = mixed or bool(step.placements)
    assert not wrong, "\n".join(wrong)


def some_patches(grid: Size) -> list[tuple[int, int]]:
    rows, cols = grid
    return sorted({(0, cols - 1), (rows - 1, 0), (rows // 2, cols // 3), (rows - 1, cols - 2)})


def with_changed_patches(
    layout: TokenLayout, patches: list[tuple[int, int]], size: tuple[int, int]
) -> torch.Tensor:
    """Return an image, and for each patch the same image with noise in that patch."""
    inputs = zoo.images(1, size).repeat(len(patches) + 1, 1, 1, 1)
    for index, patch in enumerate(patches, start=1):
        rows, cols = (
            slice(round(at * cell), round((at + 1) * cell))
            for at, cell in zip(patch, layout.cell, strict=True)
        )
        part = inputs[index, :, rows, cols]
        part.copy_(3 * zoo.images(1, (part.shape[1], part.shape[2]), seed=index)[0])
    return inputs


def share_of_change(
    places: torch.Tensor, patch: tuple[int, int], change: torch.Tensor, reach: int
) -> float:
    """Return the largest change of a slot on the patch, over the largest of all slots.

    A patch that no slot lies on, a remainder that strided keys drop, must change no slot.
    """
    row, col = patch
    on_image = places.sum(dim=(1, 2)) > 0
    near = places[:, max(0, row - reach) : row + reach + 1, max(0, col - reach) : col + reach + 1]
    there = near.sum(dim=(1, 2)) > 0
    if not there.any():
        return float(change[on_image].max() == 0)
    return float(change[there].max() / change[on_image].max())


@family
def test_a_token_of_the_head_depends_most_on_the_queries_placed_on_it(name: str) -> None:
    """The mirror image, in the last attention: the query with the largest gradient is its own."""
    member, chain = MEMBERS[name], chain_of(name)
    if member.head is None or chain.pool is not None:
        pytest.skip(f"{name}: no tensor of tokens enters the head")
    place = chain.layers[-1]
    for patch in some_patches(chain.end.grid)[:3]:
        token = chain.end.token(*patch)
        record = gradients_of_token(name, token)
        row = chain.end.one(token).double()[None]
        for step in reversed(chain.steps[place + 1 :]):
            row = row @ steps_oracle.residual(step)
        for placement in chain.steps[place].placements:
            gradient = record.placed(placement).output_gradient
            assert gradient is not None
            strength = gradient.double().transpose(1, 2).flatten(2).norm(dim=2).flatten()
            asked = placement.queries(row)[0]
            assert asked[strength.argmax()] > 0 if asked.any() else not strength.any()


def gradients_of_token(name: str, token: int) -> AttentionRecord:
    """Return a record whose output gradients are those of one token that enters the head."""
    member, module = MEMBERS[name], zoo.build(name)
    assert member.head is not None
    part, side, axes = member.head
    seen: list[torch.Tensor] = []

    def keep(_: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor = EMPTY) -> None:
        seen.append(inputs[0] if side == "input" else output)

    found = module.get_submodule(part)
    if side == "input":
        found.register_forward_pre_hook(keep)
    else:
        found.register_forward_hook(keep)
    weights = torch.randn(4096, generator=torch.Generator().manual_seed(5))

    def score(outputs: torch.Tensor) -> torch.Tensor:
        tokens = seen[0].flatten(2).transpose(1, 2) if axes == "channels_first" else seen[0]
        vector = tokens.reshape(-1, tokens.shape[-1])[token]
        return (vector * weights[: len(vector)]).sum()[None]

    model = visattn.load_model(module, image_size=member.size)
    return capture(model, zoo.images(1, member.size), gradients_of=score)


@family
def test_the_head_reads_the_declared_tokens(name: str) -> None:
    """Gradient of the output by the tokens that enter the head: zero where the row is zero."""
    member, chain = MEMBERS[name], chain_of(name)
    if name in zoo.VITS:
        pytest.skip("tests/adapters/test_every_architecture.py proves the read-outs of plain ViTs")
    if member.head is None or isinstance(chain.readout, Refusal) or chain.pool is not None:
        pytest.skip(f"{name}: the head has no tensor of tokens, or pools by attention")
    site = Site(*member.head)  # type: ignore[arg-type]
    module = zoo.build(name)
    generator = torch.Generator().manual_seed(3)

    def score(outputs: torch.Tensor) -> torch.Tensor:
        return (outputs * torch.randn(outputs.shape, generator=generator)).flatten(1).sum(dim=1)

    inputs = zoo.images(1, member.size)
    seen = observe(module, inputs, attention=False, sites=[site], score=score)
    gradient = seen.activations[site].gradient
    assert gradient is not None
    tokens = gradient[0].flatten(1).T if site.axes == "channels_first" else gradient[0]
    strength = tokens.reshape(-1, tokens.shape[-1]).norm(dim=1)
    assert strength.shape == chain.readout.row.shape
    assert torch.equal(strength > 1e-6 * strength.max(), chain.readout.row > 0)


@family
@pytest.mark.parametrize("method", ["attention", "rollout", "gae"])
def test_walks_agree_with_dense_matrices(name: str, method: str) -> None:
    chain = chain_of(name)
    if get_method(method)().refusal(find_adapter(zoo.build(name)), Size(*MEMBERS[name].size)):
        pytest.skip(f"{method} is refused for {name}, by name")
    inputs = zoo.images(2, MEMBERS[name].size).double()
    target = {"gradients_of": top_output} if method == "gae" else {}
    record = record_of(name, inputs, **target)
    for index in range(2):
        right = getattr(steps_oracle, method)(chain, record, index)
        grid = maps_of(name, inputs, method)[index].double()
        shown = right.reshape(grid.shape)
        assert (grid - shown).abs().max() <= 1e-5 * shown.abs().max()


@family
@pytest.mark.parametrize("method", ["rollout", "gae"])
def test_batch_is_single_and_sums_hold(name: str, method: str) -> None:
    if get_method(method)().refusal(find_adapter(zoo.build(name)), Size(*MEMBERS[name].size)):
        pytest.skip(f"{method} is refused for {name}, by name")
    inputs = zoo.images(3, MEMBERS[name].size)
    together = maps_of(name, inputs, method)
    alone = maps_of(name, inputs[1:2], method)[0]
    assert (together[1] - alone).abs().max() <= 1e-4 * alone.abs().max()
    assert float(torch.stack(together).min()) >= 0
    assert float(torch.stack(together).sum()) > 0
    if method == "rollout":
        assert all(float(grid.sum()) <= 1 + 1e-5 for grid in together)


def top_output(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.flatten(1).amax(dim=1)


def maps_of(name: str, inputs: torch.Tensor, method: str) -> list[torch.Tensor]:
    module = zoo.build(name).to(inputs.dtype)
    model = visattn.load_model(module, image_size=MEMBERS[name].size)
    wanted = top_output if get_method(method).class_specific else None
    maps = visattn.explain(model, inputs, method=method, target=wanted)
    return [torch.from_numpy(one.grid.copy()) for one in maps]


def test_every_family_with_attention_has_a_member() -> None:
    from visattn.adapters import ADAPTERS

    built = {find_adapter(zoo.build(name)).family for name in MEMBERS}
    without = {"convnet", "linear_attention", "coat"}
    assert set(ADAPTERS.names()) - without == built
