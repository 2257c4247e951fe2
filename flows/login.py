"""What is done in each state of a login, and `start_login`, which runs one.

In order: ask the API where the person should go; listen on loopback, show the URL, open the browser and wait; ask the
API whose token came back; write the credentials; tell the API. The table is `machines/login.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from ..base.errors import CloudError
from ..base.moments import moment_text, parse_moment
from ..base.redaction import redact
from ..base.texts import path_text
from ..engine.engine import Engine
from ..engine.flow import Flow
from ..engine.machine.parts import Event
from ..engine.visit import Program, Visit
from ..errors import (
    AccountNotConfirmed,
    ApiError,
    CallbackRejected,
    ClockWrong,
    NotAuthenticated,
    PortBusy,
    code_of,
)
from ..io.http.tokens import bare_token, token_expiry, token_problem
from ..io.local.account_switch import save_login
from ..io.local.credentials import CloudCredentials
from ..io.local.paths import CloudPaths
from ..io.loopback.browser import check_openable
from ..io.loopback.callback import callback_uri, new_nonce
from ..machines.login import (
    LOGIN,
    REDIRECT_ERRORS,
    AccountConfirmed,
    AccountDisowned,
    AuthorizationDenied,
    AuthorizationOffered,
    AuthorizationRefused,
    CallbackReceived,
    CredentialsSaved,
    LoginContext,
    LoginNotReported,
    LoginReported,
    PortTaken,
    TokenAccepted,
    TokenProvided,
    TokenRefused,
)
from .outside import Api, Browser, Person
from .services import Services
from .steps.callbacks import LONGEST_DESCRIPTION, Reply, await_browser, free_port, keep_port, release_port

LoginVisit = Visit[LoginContext]
GIVEN = "given_token"

NOTHING = "neither a token nor an error"
PORTS_TRIED = 5
"""How many free ports may be lost to other programs before a login says so."""

_MALFORMED = frozenset({400, 422})
"""The statuses that find fault with a request's content."""


def login_program(services: Services) -> Program[LoginContext]:
    """The login machine with its activities."""
    doing = _Login(services.cloud_api, services.browser, services.person, services.paths)
    return Program(
        LOGIN,
        {
            "requesting_authorization": [doing.request_authorization],
            "awaiting_callback": [doing.await_callback],
            "verifying_token": [doing.verify_token],
            "confirming_account": [doing.confirm_account],
            "saving_credentials": [doing.save_credentials],
            "reporting_login": [doing.report_login],
        },
    )


async def start_login(engine: Engine, context: LoginContext, *, token: str | None = None) -> Flow:
    """Start a login, or resume the unfinished one for the same API, provider, port and account.

    Args:
        engine: With `login_program` among its programs.
        context: What to log in to, and how.
        token: A token that is there already: no browser is needed.
    """
    if token is not None:
        handed = LoginContext(
            api_url=context.api_url,
            provider=context.provider,
            keyring=context.keyring,
            account=context.account,
            token=f"vault:{GIVEN}",
        )
        return await engine.start(LOGIN, handed, secrets={GIVEN: token})
    key = f"{context.api_url}|{context.provider}|{context.port}|{'bound' if context.bound else 'unbound'}"
    key += f"|{context.account}" if context.account else ""
    return await engine.start(LOGIN, context, key=key)


def check_clock(api_url: str, token: str, now: datetime) -> None:
    """Make sure that a token the API has just accepted is good here, too: every later command looks at its `exp` first.

    Raises:
        ClockWrong: By this computer's clock it has expired.
    """
    expiry = token_expiry(token)
    if expiry is not None and expiry < now:
        raise ClockWrong(
            f"{api_url} accepts the token, but by this computer's clock ({moment_text(now)}) it expired "
            f"{now - expiry} ago, on {moment_text(expiry)}: the clock is wrong"
        )


async def _with_a_port(visit: LoginVisit, ask: Callable[[int], Awaitable[str]]) -> tuple[int, str]:
    """A port that is ours until the browser comes back, and the API's answer to it.

    The port that was asked for is bound before the API knows it, and kept. Where any will do, the API is asked first:
    one that another program takes meanwhile is replaced by another.

    Raises:
        PortBusy: It is taken, or each of several was.
        CloudError: What `ask` raises; nothing is kept then.
    """
    wanted, tries = visit.context.port, PORTS_TRIED
    while True:
        port = free_port(0) if wanted == 0 else keep_port(visit, wanted)
        try:
            url = await ask(port)
        except BaseException:
            release_port(visit)
            raise
        if wanted:
            return port, url
        tries -= 1
        try:
            return keep_port(visit, port), url
        except PortBusy:
            if not tries:
                raise


class _Login:
    def __init__(self, api: Api, browser: Browser, person: Person, paths: CloudPaths) -> None:
        self.api = api
        self.browser = browser
        self.person = person
        self.paths = paths

    async def request_authorization(self, visit: LoginVisit) -> Event:
        context = visit.context
        if context.token:
            return TokenProvided(context.token)
        nonce = new_nonce()
        api = await self.api.client(context.api_url, None)

        async def ask(port: int) -> str:
            return await api.authorize_url(context.provider, callback_uri(port, nonce if context.bound else None))

        try:
            port, url = await _with_a_port(visit, ask)
        except PortBusy as exc:
            return PortTaken(f"{exc.user_message}; choose another port, or 0 for any free one", "port_taken")
        except ApiError as exc:
            # Only the API itself, in its own form, refuses; a proxy's or a portal's page means something else.
            if exc.status is None or exc.code is None or exc.retryable:
                raise
            ours = context.bound and exc.status in _MALFORMED
            return AuthorizationRefused(exc.user_message, "redirect_uri_refused" if ours else code_of(exc))
        check_openable(url)
        return AuthorizationOffered(port, await visit.keep("nonce", nonce), await visit.keep("url", url))

    async def await_callback(self, visit: LoginVisit) -> None:
        async def read(parameters: dict[str, str]) -> Reply:
            described = parameters.get("error_description", "")
            if error := parameters.get("error") or ("error" in parameters and described):
                message = described or REDIRECT_ERRORS.get(error, error)
                message = redact(message)[:LONGEST_DESCRIPTION]
                return Reply(
                    AuthorizationDenied(redact(error)[:LONGEST_DESCRIPTION], message),
                    self.browser.login_pages.error_page(
                        "Not logged in", "The login was refused. You can close this tab."
                    ),
                )
            token = bare_token(parameters.get("access_token", ""))
            if token and (problem := token_problem(token)):
                raise CallbackRejected(f"The token it brought {problem}. Log in again at the address above.")
            if token:
                reference = await visit.keep("access_token", token)
                page = self.browser.login_pages.success_page("Almost there", "Your terminal is finishing the login.")
                return Reply(CallbackReceived(reference), page)
            found = f"no token, but a message: {redact(described)[:LONGEST_DESCRIPTION]}" if described else NOTHING
            raise CallbackRejected(
                f"It carried {found}. Open the address again. If the browser's address bar shows "
                "a token behind `#`, paste that whole address in the terminal instead."
            )

        await await_browser(visit, self.browser, "log in", read, read_line=self.person.read_line)

    async def verify_token(self, visit: LoginVisit) -> Event:
        context = visit.context
        token = await visit.reveal(context.token)
        try:
            api = await self.api.client(context.api_url, token)
            me = await api.me()
        except NotAuthenticated as exc:
            return TokenRefused(exc.user_message, "token_refused")
        check_clock(context.api_url, token, visit.clock.now())
        return TokenAccepted(me.user.id, me.user.email)

    async def confirm_account(self, visit: LoginVisit) -> Event:
        context = visit.context
        if self.person.confirm is None:
            raise AccountNotConfirmed(f"the login found the account {context.user_email}; it was not confirmed")
        yes = await self.person.confirm(
            f"This login is not bound to your browser: anyone could have sent it. Is {context.user_email} you?"
        )
        return AccountConfirmed() if yes else AccountDisowned()

    async def save_credentials(self, visit: LoginVisit) -> Event:
        context = visit.context
        token = await visit.reveal(context.token)
        await visit.announce("save_credentials")
        now = visit.clock.now()
        try:
            credentials = CloudCredentials(
                api_token=token, api_url=context.api_url, authenticated_at=now, user_email=context.user_email
            )
        except ValueError as exc:
            raise ApiError(f"{context.api_url} describes the user in a way that cannot be stored: {exc}") from exc
        path = await visit.on_disk(save_login, self.paths, context.account, credentials, keyring=context.keyring)
        return CredentialsSaved(path_text(path), moment_text(now))

    async def report_login(self, visit: LoginVisit) -> Event:
        context = visit.context
        try:
            token = await visit.reveal(context.token)
            intent = await visit.announce("report_login")
            api = await self.api.client(context.api_url, token)
            if intent.uncertain:
                await api.me()  # any answer tells whether this server honours idempotency keys
                if not api.honours_idempotency:
                    return LoginNotReported("interrupted while it was being reported; it may have been, once")
            at = context.authenticated_at
            await api.report_activity("cloud_login", context.user_id, parse_moment(at), idempotency_key=intent.key)
        except CloudError as exc:
            return LoginNotReported(exc.user_message)
        return LoginReported()
