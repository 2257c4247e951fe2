"""systemprompt-cloud: from nothing to a running tenant, as durable state machines.

Everything public is importable from here; `__init__.pyi` is the list for type checkers, `_PUBLIC` the same at run time.
A name is loaded when it is first used, so that importing the package, as every start of the command line does, costs
next to nothing.
"""

_PUBLIC = {
    "_version": "__version__",
    "base.clock": "Clock SystemClock",
    "base.errors": "CloudError Io UnsafeFile",
    "diagrams.dot": "dot",
    "diagrams.mermaid": "mermaid",
    "diagrams.svg": "svg",
    "diagrams.text": "draw_path draw_table",
    "engine.activities": "await_signal",
    "engine.engine": "Engine open_engine",
    "engine.errors": (
        "ActivitiesRanDry EffectUncertain EngineClosed EventNotAccepted FlowBusy FlowFailed FlowInterrupted "
        "FlowNotFound FlowParked IncompatibleFlow JournalCorrupted JournalError JournalTooNew KeyInUse "
        "MachineInvalid NotStorable UsedTwice"
    ),
    "engine.flow": "Flow",
    "engine.history": "Change Outcome",
    "engine.limits": "Limit",
    "engine.machine.machine": "Machine",
    "engine.machine.migrations": "Migration",
    "engine.machine.parts": (
        "ANY STAY CancelRequested Context DeadlinePassed Event ResumePolicy Row State Step Verdict on"
    ),
    "engine.retries": "Retry activity",
    "engine.visit": "Activity Intent Program Visit",
    "errors": (
        "AccountNotConfirmed ApiError AppNotConfigured CallbackRejected CredentialsBootstrapError "
        "CredentialsCorrupted DeploymentUnfinished InvalidImage JwtDecode KeyringUnavailable LoginDenied "
        "MissingProfileField Network NotAuthenticated PortBusy ProfileRequired SessionsCorrupted "
        "SessionVersionMismatch StreamLost TenantNotConfigured TenantNotFound TenantsNotSynced "
        "TenantsStoreCorrupted TenantsStoreInvalid TokenExpired TooLarge UnsafeUrl UntrustedApi"
    ),
    "flows.cloud": "Cloud open_cloud",
    "flows.onboarding": "all_programs",
    "flows.originals": (
        "CheckoutCallbackResult checkout_redirect_uri run_checkout_callback_flow run_oauth_flow wait_for_provisioning"
    ),
    "flows.services": "Services",
    "io.cloud.api": "CloudApiClient",
    "io.cloud.sync_api": "SyncCloudApiClient",
    "io.cloud.wire": (
        "PRODUCTION_URL REGIONS SANDBOX_URL ActivityEvent CheckoutEvent CheckoutResponse CustomDomainResponse "
        "Customer DeployResponse DnsInstructions Environment ExternalDbAccessResponse ListSecretsResponse "
        "OAuthProvider Plan ProvisioningEvent ProvisioningEventType RegistryToken RotateCredentialsResponse "
        "StatusResponse SubscriptionStatus Tenant TenantInfo TenantInfoStatus TenantPlan TenantSecrets "
        "TenantStatus UserInfo UserMeResponse"
    ),
    "io.http.polling": "Backoff",
    "io.local.bootstrap": "Bootstrap CredentialsBootstrap find_credentials",
    "io.local.context": "CloudContext ResolvedTenant UnifiedContext",
    "io.local.credentials": "CloudCredentials",
    "io.local.paths": "CloudPaths expand_home get_cloud_paths resolve_cloud_paths resolve_path",
    "io.local.project": "CloudPath DiscoveredProject ProfilePath ProjectContext ProjectPath",
    "io.local.session_store": "SessionStore",
    "io.local.sessions": "LOCAL_SESSION_KEY CliSession CliSessionBuilder SessionKey UserType",
    "io.local.tenants": "NewCloudTenantParams StoredTenant TenantStore TenantType",
    "io.loopback.pages": "CheckoutTemplates OAuthTemplates",
    "io.sse.blocking": "SyncEventSource SyncEventStream",
    "io.sse.decoder": "EventDecoder EventStream ServerSentEvent",
    "io.sse.event_source": "EventSource",
    "machines.checkout": "CHECKOUT",
    "machines.deployment": "DEPLOYMENT DeploymentContext",
    "machines.login": "LOGIN LoginContext",
    "machines.onboarding": "ONBOARDING OnboardingContext",
    "machines.parts.order": "CheckoutContext",
    "machines.provisioning": "PROVISIONING ProvisioningContext",
    "sandbox": "Sandbox serve_sandbox",
}
"""Each module, and the public names that are loaded from it; a test compares them with the stub."""

_MODULES = {name: module for module, names in _PUBLIC.items() for name in names.split()}

__all__ = [*_MODULES]  # noqa: PLE0604 # pyright: ignore[reportUnsupportedDunderAll] the table is the list


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
