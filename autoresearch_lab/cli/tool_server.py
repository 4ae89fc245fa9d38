"""Serves the verbs as tools over stdin and stdout: every call is a process of its own, with the verb's command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import NoReturn

import anyio
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

from autoresearch_lab.cli.app import Terminated, run_guarded
from autoresearch_lab.cli.progress import INDENT
from autoresearch_lab.cli.subject import FORMS
from autoresearch_lab.cli.tools import TOOLS, command_line, declared, schema
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import python_path
from autoresearch_lab.sandbox.parent import end_all
from autoresearch_lab.sandbox.supervisor import below

NEGATIVE = 1
INSTRUCTIONS = (
    "Profile a language-model trainer, prove faster kernels, and promote those that make training better: profile, "
    f"extract, edit the workspace's kernel.py, verify, bench, ab, promote. A kernel is named as {FORMS}; paths are "
    "relative to the folder in which the server was started. Verdicts are in the answer; run one measuring verb at a "
    "time. The manual is program.md."
)


@dataclass(frozen=True)
class VerbEnd:
    """How a verb ended. told: the lines that it wrote to stderr, without those of progress."""

    code: int
    printed: str
    told: list[str]

    def result(self) -> CallToolResult:
        """Its JSON, as text and as it is, and its remarks; or the line by which it was refused or failed."""
        if self.code not in (0, NEGATIVE) or not self.printed:
            return _refused((self.told or [f"the verb ended with exit code {self.code}"])[-1])
        answer = "no, or it failed" if self.code == NEGATIVE else "yes"
        remarks = "\n".join([f"exit code {self.code}: done, and the answer is {answer}", *self.told])
        texts = [TextContent(text=self.printed), TextContent(text=remarks)]
        return CallToolResult(content=[*texts], structured_content=json.loads(self.printed))


def _refused(line: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=line)], is_error=True)


def make_server(program: Sequence[str]) -> Server:
    """program: the words of the command line before the verb."""
    tools = [Tool(name=verb, description=declared(verb).help, input_schema=schema(verb)) for verb in TOOLS]

    async def list_tools(context: ServerRequestContext, _: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=tools)

    async def call_tool(context: ServerRequestContext, asked: CallToolRequestParams) -> CallToolResult:
        if asked.name not in TOOLS:
            raise MCPError(INVALID_PARAMS, f"there is no tool {asked.name!a}")
        try:
            words = command_line(asked.name, asked.arguments or {})
        except LabError as error:
            return _refused(f"error: {error}")
        ended = await execute([*program, *words], context.session.report_progress)
        return ended.result()

    return Server(
        "kernel-lab",
        version=version("autoresearch-kernel-lab"),
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def execute(words: Sequence[str], report: Callable[[float, float | None, str], Awaitable[None]]) -> VerbEnd:
    """Run a verb and report each line of its progress. When the caller gives up or leaves, the verb is ended."""
    count, told = 0, []
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            below(words),
            env={**os.environ, "PYTHONPATH": python_path()},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        try:
            while raw := await anyio.to_thread.run_sync(process.stderr.readline, abandon_on_cancel=True):
                line = raw.decode("utf-8", "replace").rstrip()
                count += 1
                await report(count, None, line.strip())
                if line and not line.startswith(INDENT):
                    told.append(line)
            code = await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(end_all, process)
        printed.seek(0)
        return VerbEnd(code, printed.read().decode("utf-8").strip(), told)


class _Ended(Terminated, SystemExit):
    """Terminated as asyncio lets it through: any other exception that a signal raises within a callback of its loop is
    only logged, and the server would go on."""


def _end(*_: object) -> NoReturn:
    raise _Ended


def serve(program: Sequence[str]) -> None:
    """Until the caller closes stdin."""

    async def run() -> None:
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        server = make_server(program)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    # Where it is ended by a signal a thread still reads stdin, and Python would wait for that.
    if code := run_guarded(lambda: anyio.run(run)):
        os._exit(code)
