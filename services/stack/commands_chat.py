"""chat."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from services.gateway.client import Backoff, Client, Refused
from services.stack.chat import AgentChat, CustomerChat
from services.stack.errors import StackError
from services.stack.prompt import Prompt
from services.stack.stack import Stack
from services.stack.staff import ensure_agent

PATH = "/v1/ws"
CONNECT_TIMEOUT_S = 15.0
RETRY_MAX_S = 3.0


def chat(
    tenant: Annotated[str, typer.Option(help="Tenant of who talks.")] = "demo",
    agent: Annotated[str, typer.Option(help="Answer as this agent.")] = "",
    customer: Annotated[str, typer.Option(help="Ask as this customer; a visitor if none.")] = "",
    conversation: Annotated[str, typer.Option(help="Go on with this conversation.")] = "",
    text: Annotated[str, typer.Option(help="First message.")] = "",
    queue: Annotated[bool, typer.Option("--queue", help="Ask for a person at once.")] = False,
    ask: Annotated[
        bool, typer.Option("--ask", help="As an agent: ask before an offer is taken.")
    ] = False,
) -> None:
    """Talk in this terminal: as a customer, or with --agent as an agent.

    Runs through Envoy like any client, and comes back by itself when the gateway
    goes away. Lines may be piped in.
    """
    stack = Stack()
    try:
        if agent:
            asyncio.run(_answer(stack, tenant, agent, accept=not ask))
        else:
            visitor = customer or f"visitor-{uuid.uuid4().hex[:8]}"
            asyncio.run(_ask(stack, tenant, visitor, conversation, text, queue=queue))
    except Refused as error:
        raise StackError(f"the gateway refused: {error}") from None
    except TimeoutError:
        raise StackError(
            f"nobody answers at {stack.edge_url}", "Run `interchange up`, and try again."
        ) from None


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(chat)


async def _ask(
    stack: Stack, tenant: str, customer: str, conversation: str, text: str, *, queue: bool
) -> None:
    async with _connected(stack, tenant, "customer", customer) as client:
        with Prompt() as prompt:
            chat = CustomerChat(client, prompt, customer)
            prompt.typed = chat.typed
            await chat.run(chat.begin(conversation, text, customer, queue=queue))


async def _answer(stack: Stack, tenant: str, agent: str, *, accept: bool) -> None:
    await ensure_agent(stack, tenant, agent)
    async with _connected(stack, tenant, "agent", agent) as client:
        with Prompt() as prompt:
            chat = AgentChat(client, prompt, agent, accept=accept)
            prompt.typed = chat.typed
            await chat.run(chat.begin())


@asynccontextmanager
async def _connected(stack: Stack, tenant: str, role: str, subject: str) -> AsyncIterator[Client]:
    """Connect as somebody of a tenant, by tokens that are made here."""
    url = stack.edge_url.replace("http", "ws", 1) + PATH
    client = Client(
        url,
        lambda: stack.token(tenant, [role], subject),
        name="interchange chat",
        backoff=Backoff(most_s=RETRY_MAX_S),
    )
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        await client.__aenter__()
    try:
        yield client
    finally:
        await client.close()
