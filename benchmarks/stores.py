"""plan_growth, ledger_moves and storm_10000: the plan, the ledger over TLS, and many events at once."""

from __future__ import annotations

from functools import partial

from benchmarks import processes
from benchmarks.prepared import Prepared
from benchmarks.rounds import Round, in_turns
from benchmarks.sizes import Sizes
from benchmarks.table import Result, compared, within
from functions.cloud.tables import TABLE
from simulator import identity
from simulator.storage.azurite import Azurite, StorageAccount
from simulator.tls import Tls

MOVES = ("insert", "replace", "get", "delete")


async def plan(sizes: Sizes, tls: Tls) -> list[Result]:
    run = partial(processes.run, "planning.plan")
    rounds = await in_turns(sizes.rounds, lambda: run(4 * sizes.plan), lambda: run(sizes.plan))
    return [compared("plan_growth", rounds)]


async def ledger_moves(sizes: Sizes, tls: Tls) -> list[Result]:
    async with Azurite(tls) as azurite:
        account = azurite.account
        await _create_table(account)
        run = partial(processes.run, environ=tls.settings())
        rounds = await in_turns(
            sizes.rounds,
            lambda: run("moving.ours", account.settings(), sizes.ledger_rows),
            lambda: run("moving.reference", account.table_url, sizes.ledger_rows),
        )
    return [compared("ledger_moves", rounds, scale=1000 / sizes.ledger_rows, note=_by_move(rounds))]


async def _create_table(account: StorageAccount) -> None:
    from azure.data.tables.aio import TableServiceClient

    async with TableServiceClient(account.table_url, credential=identity.StaticCredential()) as client:
        await client.create_table(TABLE)


def _by_move(rounds: list[Round]) -> str:
    found = {name: compared("ledger_moves", rounds, figure=name).ratio.median for name in MOVES}
    return ", ".join(f"{name} {value:.1f}" for name, value in found.items())


async def storm(sizes: Sizes, tls: Tls) -> list[Result]:
    async with Prepared().served(tls) as azure:
        run = partial(processes.run, "storming.storm", azure.endpoint, sizes.storm, environ=tls.settings())
        runs = [await run() for _ in range(sizes.rounds)]
    note = f"{sizes.storm:,} events, {1000 * runs[-1]['cpu'] / sizes.storm:.1f} ms of CPU each"
    return [within("storm_10000", runs, figure="median", against="last", note=note)]
