"""The verbs over the Model Context Protocol, with a client: the same JSON, the same refusals, progress, and an end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from autoresearch_lab.cli import app
from autoresearch_lab.cli.tools import TOOLS
from autoresearch_lab.paths import CHECKOUT, Root, python_path

WITHOUT = "the MCP SDK is not installed: pip install -e '.[mcp]'"


mcp = pytest.importorskip("mcp", reason=WITHOUT)
anyio = pytest.importorskip("anyio", reason=WITHOUT)

from mcp.client.stdio import StdioServerParameters  # noqa: E402

from autoresearch_lab.cli.tool_server import make_server  # noqa: E402

# Plays a verb: what it is asked for decides how it ends.
PLAY = """
import json, os, sys, time
words = sys.argv[1:]
seed = next((word[7:] for word in words if word.startswith("--seed=")), "0")
print("warning: a remark", file=sys.stderr)
for at in range(3):
    print(f"   bench: process {at}", file=sys.stderr, flush=True)
if seed == "3":
    open(os.environ["MARK"], "w").write(str(os.getpid()))
    time.sleep(600)
if seed == "2":
    print("error: no such kernel", file=sys.stderr)
elif seed != "4":
    print(json.dumps({"words": words, "verdict": "SAME"}))
sys.exit(int(seed))
"""


def played(session):
    """What the session does with a server whose verbs are played."""

    async def run():
        async with mcp.Client(make_server([sys.executable, "-c", PLAY])) as client:
            return await session(client)

    return anyio.run(run)


def call(tool, arguments, **options):
    return played(lambda client: client.call_tool(tool, arguments, **options))


def test_every_tool_is_listed_with_its_help():
    found = played(lambda client: client.list_tools()).tools
    assert [tool.name for tool in found] == list(TOOLS) and all(tool.description for tool in found)


def test_an_answer_is_the_verbs_json_and_progress_is_told():
    told = []

    async def progress(at, total, message):
        told.append((at, message))

    found = call("bench", {"kernels": ["rms_norm=x"]}, progress_callback=progress)
    assert not found.is_error and found.structured_content == json.loads(found.content[0].text)
    assert found.structured_content["words"] == ["bench", "--json", "--", "rms_norm=x"]
    assert found.content[1].text == "exit code 0: done, and the answer is yes\nwarning: a remark"
    assert told[1:] == [(2, "bench: process 0"), (3, "bench: process 1"), (4, "bench: process 2")]


def test_no_is_an_answer_and_what_is_refused_is_an_error_in_one_line():
    found = call("bench", {"seed": 1})
    assert not found.is_error and found.content[1].text.startswith("exit code 1: done, and the answer is no")
    found = call("bench", {"seed": 2})
    assert found.is_error and [one.text for one in found.content] == ["error: no such kernel"]
    assert call("bench", {"seed": 4}).is_error
    found = call("bench", {"kernel": "x"})
    assert found.is_error and found.content[0].text.startswith("error: bench has no argument 'kernel'")

    async def unknown(client):
        with pytest.raises(mcp.MCPError, match="there is no tool 'watch'"):
            await client.call_tool("watch", {})

    played(unknown)


def test_a_call_that_is_given_up_ends_its_verb(tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    monkeypatch.setenv("MARK", str(mark))

    async def give_up(client):
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "bench", {"seed": 3})
            while not (mark.exists() and mark.read_text()):
                await anyio.sleep(0.02)
            group.cancel_scope.cancel()

    played(give_up)
    number, end = int(mark.read_text()), time.monotonic() + 10
    while Path(f"/proc/{number}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def over_stdio(root: Path, session):
    """What the session does with the real verb, in a process of its own."""
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "autoresearch_lab.cli.app", "--engine", "cpu", "--root", str(root), "mcp"],
        env={"PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1"}
        | {name: os.environ[name] for name in ("AUTORESEARCH_LOCKS", "MARK") if name in os.environ},
        cwd=root,
    )

    async def run():
        async with mcp.Client(server) as client:
            return await session(client)

    return anyio.run(run)


def test_the_real_verbs_answer_and_refuse_over_stdio(tmp_path, capsys):
    (tmp_path / "kernels").symlink_to(CHECKOUT / "kernels")
    place = ["--engine", "cpu", "--root", str(tmp_path)]

    async def session(client):
        return [await client.call_tool("ledger", {}), await client.call_tool("bench", {"kernels": ["rms_norm=none"]})]

    answer, refusal = over_stdio(tmp_path, session)
    assert app.main([*place, "ledger", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer.structured_content
    assert app.main([*place, "bench", "rms_norm=none"]) == 2
    assert refusal.is_error and capsys.readouterr().err.strip() == refusal.content[0].text


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, "error: terminated\n"), (signal.SIGINT, 130, "error: interrupted\n")],
)
def test_a_server_that_is_ended_does_not_wait_for_its_caller(tmp_path, number: int, code: int, line: str):
    words = [sys.executable, "-m", "autoresearch_lab.cli.app", "--root", str(tmp_path), "mcp"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": python_path()}, **pipes) as server:
        print(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}), file=server.stdin, flush=True)
        assert json.loads(server.stdout.readline())["id"] == 1
        server.send_signal(number)
        try:
            assert server.wait(20) == code and server.stderr.read().endswith(line)
        finally:
            server.kill()


@pytest.mark.slow
@pytest.mark.thorough
def test_profile_verify_and_bench_by_a_client(tmp_path):
    """One small target, so that each verb does the least that it can."""
    from autoresearch_data.build import prepare
    from autoresearch_data.local import local_path

    shutil.copytree(CHECKOUT / "kernels", tmp_path / "kernels", ignore=shutil.ignore_patterns("*.local.toml"))
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    rows = [json.dumps({"text": path.read_text("utf-8", "replace")}) + "\n" for path in sources]
    (corpus / "all.jsonl").write_text("".join(rows), encoding="utf-8")
    prepare(local_path(corpus), Root(tmp_path).data("small"))
    told = []

    async def progress(at, total, message):
        told.append(message)

    async def session(client):
        asked = {"dataset": "small", "preset": "cpu-nano-d1-w64", "steps": 4}
        profile = await client.call_tool("profile", asked, progress_callback=progress)
        subject = {"kernels": ["relu_squared=cpp_fused"]}
        return (
            profile,
            await client.call_tool("verify", {**subject, "seed": 1}),
            await client.call_tool("bench", {**subject, "budget": 1, "looks": "2", "compiled_arm": False}),
        )

    profile, verify, bench = over_stdio(tmp_path, session)
    assert not profile.is_error, profile.content
    assert (tmp_path / "profile.json").is_file() and profile.structured_content["targets"] and told
    assert not verify.is_error and verify.structured_content["verdict"] == "PASS", verify.content
    assert not bench.is_error and bench.structured_content["verdict"] in ("FASTER", "SAME", "AMBIGUOUS", "SLOWER")
    assert bench.structured_content["record"] and "exit code" in bench.content[1].text
