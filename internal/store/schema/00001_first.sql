-- min_binary_schema: 1
--
-- Rules of this folder: one text for SQLite and PostgreSQL; times are
-- microseconds since 1970 UTC, 0 for "not yet"; lists and documents are JSON in
-- text. Every table but the deployment's own has project_id and begins its key
-- with it; ids ascend with time, so new rows go to the end of a key. Nothing
-- names a collation: on PostgreSQL the migrator makes every text column
-- COLLATE "C".
--
-- WITHOUT ROWID was measured and left out: it costs the same, and SQLite then
-- takes the half of the key that is project_id for better than an index.

-- The deployment's own tables. migration_lock is made by the migrator, before
-- anything else.

CREATE TABLE schema_state (
    id                BIGINT PRIMARY KEY,
    version           BIGINT NOT NULL,
    min_binary_schema BIGINT NOT NULL -- the oldest binary that can work with it
);

CREATE TABLE master_key_check (
    id    BIGINT PRIMARY KEY,
    value BYTEA NOT NULL
);

-- Keys of the management API. Revoked and ended ones stay.
CREATE TABLE workspace_key (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    secret_hash  BYTEA NOT NULL,
    read_only    BOOLEAN NOT NULL,
    made_by      TEXT NOT NULL, -- 'operator', or an administrator's address: with them it ends
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL, -- 0: it does not end by itself
    revoked_at   BIGINT NOT NULL
);

-- People who look after the deployment, and how they prove it: a passkey, or a
-- password and a code of an authenticator (decision 16). removed_at keeps the
-- row of who has done things.
CREATE TABLE administrator (
    id              TEXT PRIMARY KEY,
    email           TEXT NOT NULL,
    email_folded    TEXT NOT NULL,
    password_hash   TEXT NOT NULL, -- PHC string, '' without a password
    totp_secret     BYTEA NOT NULL, -- sealed for this row, empty without a password
    totp_step       BIGINT NOT NULL, -- the last time step whose code was used
    created_at      BIGINT NOT NULL,
    last_sign_in_at BIGINT NOT NULL,
    removed_at      BIGINT NOT NULL
);
CREATE UNIQUE INDEX administrator_address ON administrator (email_folded) WHERE removed_at = 0;

CREATE TABLE administrator_session (
    id               TEXT PRIMARY KEY,
    administrator_id TEXT NOT NULL REFERENCES administrator (id) ON DELETE CASCADE,
    secret_hash      BYTEA NOT NULL,
    address          TEXT NOT NULL,
    user_agent       TEXT NOT NULL,
    created_at       BIGINT NOT NULL,
    last_seen_at     BIGINT NOT NULL,
    idle_expires_at  BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL
);
CREATE INDEX administrator_session_of ON administrator_session (administrator_id);
CREATE INDEX administrator_session_expiry ON administrator_session (idle_expires_at);

-- credential is what the WebAuthn library keeps of a passkey: its public key,
-- flags and counter. id is the authenticator's own, in base64url.
CREATE TABLE administrator_passkey (
    id               TEXT PRIMARY KEY,
    administrator_id TEXT NOT NULL REFERENCES administrator (id) ON DELETE CASCADE,
    name             TEXT NOT NULL,
    credential       TEXT NOT NULL,
    created_at       BIGINT NOT NULL,
    last_used_at     BIGINT NOT NULL
);
CREATE INDEX administrator_passkey_of ON administrator_passkey (administrator_id);

-- One-time links that make an administrator, or give one new ways to sign in.
-- An address has one at a time; '' is the first administrator's, who names
-- themselves. tries counts wrong secrets.
CREATE TABLE administrator_link (
    id               TEXT PRIMARY KEY,
    secret_hash      BYTEA NOT NULL,
    administrator_id TEXT NOT NULL, -- '' makes a new one
    email            TEXT NOT NULL,
    email_folded     TEXT NOT NULL UNIQUE,
    tries            BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL
);
CREATE INDEX administrator_link_expiry ON administrator_link (expires_at);

-- What the server remembers between two steps of proving who one is: sealed,
-- taken once.
CREATE TABLE administrator_ceremony (
    id          TEXT PRIMARY KEY,
    secret_hash BYTEA NOT NULL,
    state       BYTEA NOT NULL,
    expires_at  BIGINT NOT NULL
);
CREATE INDEX administrator_ceremony_expiry ON administrator_ceremony (expires_at);

-- That the deployment has had an administrator, in one row and for ever: its
-- first link never comes back.
CREATE TABLE deployment_claim (
    id         BIGINT PRIMARY KEY,
    claimed_at BIGINT NOT NULL
);

-- The servers that are alive. PostgreSQL only: a SQLite file has one server.
CREATE TABLE node (
    id         TEXT PRIMARY KEY,
    started_at BIGINT NOT NULL,
    until      BIGINT NOT NULL
);

-- What the database was made for, in one row, from the first server on.
CREATE TABLE purpose (
    id   BIGINT PRIMARY KEY,
    name TEXT NOT NULL
);

-- Projects.

CREATE TABLE project (
    project_id   TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    issuer       TEXT NOT NULL,
    vertical     TEXT NOT NULL,
    environment  TEXT NOT NULL,
    public_token TEXT NOT NULL UNIQUE,
    secret_id    TEXT NOT NULL,
    secret_hash  BYTEA NOT NULL,
    settings     TEXT NOT NULL,
    created_at   BIGINT NOT NULL
);

-- One host leads to one project, whoever it belongs to.
CREATE TABLE project_host (
    host       TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (project_id),
    is_issuer  BOOLEAN NOT NULL
);

-- change is what caches compare; revocation is the last sequence given out in
-- the revocation feed. A row of its own, because it is polled every second and
-- locked by whoever raises it.
CREATE TABLE project_counter (
    project_id TEXT PRIMARY KEY REFERENCES project (project_id),
    change     BIGINT NOT NULL,
    revocation BIGINT NOT NULL
);

-- The policy document, every version; the highest one counts.
CREATE TABLE policy (
    project_id TEXT NOT NULL REFERENCES project (project_id),
    version    BIGINT NOT NULL,
    document   TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, version)
);

CREATE TABLE resource_server (
    project_id     TEXT NOT NULL REFERENCES project (project_id),
    id             TEXT NOT NULL,
    uri            TEXT NOT NULL,
    uri_key        TEXT NOT NULL, -- uri without one trailing slash
    aliases        TEXT NOT NULL, -- other URIs; none is a URI or alias of another
    name           TEXT NOT NULL,
    scopes         TEXT NOT NULL,
    default_scopes TEXT NOT NULL,
    profile        TEXT NOT NULL,
    access_token   BIGINT NOT NULL, -- seconds
    secret_id      TEXT NOT NULL,
    secret_hash    BYTEA,
    is_default     BOOLEAN NOT NULL,
    created_at     BIGINT NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, uri_key)
);

CREATE TABLE signing_key (
    project_id  TEXT NOT NULL REFERENCES project (project_id),
    id          TEXT NOT NULL,
    algorithm   TEXT NOT NULL,
    generation  BIGINT NOT NULL,
    public_key  BYTEA NOT NULL,
    private_key BYTEA NOT NULL,
    created_at  BIGINT NOT NULL,
    not_before  BIGINT NOT NULL,
    retire_at   BIGINT NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, algorithm, generation)
);

-- People.

CREATE TABLE "user" (
    project_id      TEXT NOT NULL REFERENCES project (project_id),
    id              TEXT NOT NULL,
    email           TEXT NOT NULL,
    email_folded    TEXT NOT NULL, -- folded in Go; what identifies the person
    email_verified  BOOLEAN NOT NULL,
    name            TEXT NOT NULL,
    active          BOOLEAN NOT NULL,
    created_at      BIGINT NOT NULL,
    last_sign_in_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, email_folded)
);
CREATE INDEX user_locked ON "user" (id) WHERE NOT active; -- as client_barred

-- Organizations and members (B2B projects). settings, trusted_metadata and roles
-- are JSON; version is what a change must have seen.
CREATE TABLE organization (
    project_id       TEXT NOT NULL REFERENCES project (project_id),
    id               TEXT NOT NULL,
    name             TEXT NOT NULL,
    slug             TEXT NOT NULL,
    external_id      TEXT NOT NULL,
    active           BOOLEAN NOT NULL, -- FALSE: suspended
    settings         TEXT NOT NULL,
    trusted_metadata TEXT NOT NULL,
    roles            TEXT NOT NULL, -- of this organization alone
    logo             TEXT NOT NULL, -- digest in organization_logo, '' without one
    version          BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, slug)
);
CREATE UNIQUE INDEX organization_external ON organization (project_id, external_id) WHERE external_id <> '';

-- Domains whose people may join by themselves; only while the organization
-- lets them.
CREATE TABLE organization_domain (
    project_id      TEXT NOT NULL,
    domain          TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    PRIMARY KEY (project_id, domain, organization_id),
    FOREIGN KEY (project_id, organization_id) REFERENCES organization (project_id, id) ON DELETE CASCADE
);
CREATE INDEX organization_domain_of ON organization_domain (project_id, organization_id);

-- A removed member stays as a row with status 'deleted'; who is invited again
-- at the same address is somebody new.
CREATE TABLE member (
    project_id         TEXT NOT NULL,
    id                 TEXT NOT NULL,
    organization_id    TEXT NOT NULL,
    email              TEXT NOT NULL,
    email_folded       TEXT NOT NULL,
    name               TEXT NOT NULL,
    status             TEXT NOT NULL, -- invited, pending, active, deleted
    roles              TEXT NOT NULL, -- given directly, JSON
    is_admin           BOOLEAN NOT NULL, -- roles has admin
    external_id        TEXT NOT NULL,
    trusted_metadata   TEXT NOT NULL,
    untrusted_metadata TEXT NOT NULL,
    version            BIGINT NOT NULL,
    created_at         BIGINT NOT NULL,
    updated_at         BIGINT NOT NULL,
    last_sign_in_at    BIGINT NOT NULL,
    invited_at         BIGINT NOT NULL, -- when the last invitation was sent, 0 for never
    proofs_after       BIGINT NOT NULL, -- proofs of the address up to then do not let the member in, 0 for none
    PRIMARY KEY (project_id, id),
    FOREIGN KEY (project_id, organization_id) REFERENCES organization (project_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX member_address ON member (project_id, organization_id, email_folded) WHERE status <> 'deleted';
CREATE INDEX member_of ON member (project_id, organization_id, id);
CREATE INDEX member_email ON member (project_id, email_folded);
CREATE INDEX member_admin ON member (project_id, organization_id) WHERE is_admin AND status = 'active';

-- A browser of a B2B project: an address that was proved in it, and the
-- organization it is in now (decision 30).
CREATE TABLE browser (
    project_id      TEXT NOT NULL REFERENCES project (project_id),
    id              TEXT NOT NULL,
    secret_hash     BYTEA NOT NULL,
    email           TEXT NOT NULL,
    email_folded    TEXT NOT NULL,
    factors         TEXT NOT NULL,
    organization_id TEXT NOT NULL, -- '' before one is chosen
    address         TEXT NOT NULL,
    user_agent      TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    last_seen_at    BIGINT NOT NULL,
    idle_expires_at BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    PRIMARY KEY (project_id, id)
);
CREATE INDEX browser_expiry ON browser (project_id, idle_expires_at);
CREATE INDEX browser_email ON browser (project_id, email_folded);

-- A session belongs to one user, or to one member in one organization and then,
-- if hosted, to a browser. Its secret is the browser's there.
CREATE TABLE session (
    project_id      TEXT NOT NULL REFERENCES project (project_id),
    id              TEXT NOT NULL,
    subject         TEXT NOT NULL,
    organization_id TEXT NOT NULL, -- '' for a user
    browser_id      TEXT NOT NULL, -- '' for a user
    kind            TEXT NOT NULL,
    secret_id       TEXT NOT NULL,
    secret_hash     BYTEA NOT NULL,
    factors         TEXT NOT NULL,
    address         TEXT NOT NULL,
    user_agent      TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    last_seen_at    BIGINT NOT NULL,
    idle_expires_at BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, secret_id)
);
CREATE INDEX session_of_subject ON session (project_id, subject);
CREATE INDEX session_of_organization ON session (project_id, organization_id) WHERE organization_id <> '';
CREATE UNIQUE INDEX session_of_browser ON session (project_id, browser_id, organization_id) WHERE browser_id <> '';
CREATE INDEX session_expiry ON session (project_id, idle_expires_at);

CREATE TABLE flow (
    project_id      TEXT NOT NULL,
    id              TEXT NOT NULL,
    browser_hash    BYTEA NOT NULL,
    return_to       TEXT NOT NULL,
    request         BYTEA,
    email           TEXT NOT NULL,
    method_id       TEXT NOT NULL, -- the one email_code that works, '' for none
    code_expires_at BIGINT NOT NULL,
    trace_id        TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    decided_at      BIGINT NOT NULL,
    PRIMARY KEY (project_id, id)
);

-- An organization's own OpenID provider.
CREATE TABLE sso_connection (
    project_id      TEXT NOT NULL,
    id              TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    issuer          TEXT NOT NULL,
    client_id       TEXT NOT NULL,
    client_secret   BYTEA NOT NULL, -- sealed for this row
    active          BOOLEAN NOT NULL,
    provider        TEXT NOT NULL, -- what its metadata says
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, organization_id),
    FOREIGN KEY (project_id, organization_id) REFERENCES organization (project_id, id) ON DELETE CASCADE
);

-- Which member a provider's own id of a person is, from the first sign-in on.
CREATE TABLE sso_subject (
    project_id    TEXT NOT NULL,
    connection_id TEXT NOT NULL,
    subject       TEXT NOT NULL,
    member_id     TEXT NOT NULL,
    PRIMARY KEY (project_id, connection_id, subject),
    UNIQUE (project_id, connection_id, member_id),
    FOREIGN KEY (project_id, connection_id) REFERENCES sso_connection (project_id, id) ON DELETE CASCADE,
    FOREIGN KEY (project_id, member_id) REFERENCES member (project_id, id) ON DELETE CASCADE
);
CREATE INDEX sso_subject_member ON sso_subject (project_id, member_id);

-- A browser that was sent to a provider. Nonce and PKCE verifier are made of id
-- under a key that is not here.
CREATE TABLE sso_attempt (
    project_id      TEXT NOT NULL,
    flow_id         TEXT NOT NULL,
    id              TEXT NOT NULL,
    hash            BYTEA NOT NULL, -- of the state
    organization_id TEXT NOT NULL,
    connection_id   TEXT NOT NULL,
    is_test         BOOLEAN NOT NULL,
    proves_again    BOOLEAN NOT NULL,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    PRIMARY KEY (project_id, flow_id),
    UNIQUE (project_id, id),
    FOREIGN KEY (project_id, flow_id) REFERENCES flow (project_id, id) ON DELETE CASCADE
);

CREATE TABLE email_code (
    project_id   TEXT NOT NULL,
    id           TEXT NOT NULL,
    flow_id      TEXT NOT NULL,
    email        TEXT NOT NULL,
    email_folded TEXT NOT NULL,
    mac          BYTEA NOT NULL,
    tries        BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    used_at      BIGINT NOT NULL,
    PRIMARY KEY (project_id, id),
    FOREIGN KEY (project_id, flow_id) REFERENCES flow (project_id, id) ON DELETE CASCADE
);
CREATE INDEX email_code_flow ON email_code (project_id, flow_id);

-- Connected apps and what they were given (decision 29).

CREATE TABLE client (
    project_id         TEXT NOT NULL REFERENCES project (project_id),
    id                 TEXT NOT NULL,
    url                TEXT NOT NULL, -- client_id of a metadata document, else ''
    type               TEXT NOT NULL,
    creation           TEXT NOT NULL,
    metadata           TEXT NOT NULL,
    metadata_hash      BYTEA NOT NULL,
    merged             BOOLEAN NOT NULL, -- shared by all who register the same metadata
    secret_id          TEXT NOT NULL,
    secret_hash        BYTEA,
    secret_last4       TEXT NOT NULL,
    rat_id             TEXT NOT NULL, -- registration access token, '' for who may not change its own row
    rat_hash           BYTEA,
    bypass_consent     BOOLEAN NOT NULL,
    blocked            BOOLEAN NOT NULL,
    created_at         BIGINT NOT NULL,
    last_registered_at BIGINT NOT NULL,
    fetched_at         BIGINT NOT NULL,
    fresh_until        BIGINT NOT NULL,
    copied_at          BIGINT NOT NULL, -- day of the copy that stands for its document, 0 when that was read
    logo               TEXT NOT NULL,   -- digest in client_logo, '' without one
    name_folded        TEXT NOT NULL,   -- folded in Go; what lists are in the order of
    PRIMARY KEY (project_id, id)
);
-- Lists are in the order of names, all of them or those of one kind.
CREATE INDEX client_name ON client (project_id, name_folded, id);
CREATE INDEX client_creation ON client (project_id, creation, name_folded, id);
CREATE INDEX client_type ON client (project_id, type, name_folded, id);
CREATE INDEX client_blocked ON client (project_id, name_folded, id) WHERE blocked;
CREATE INDEX client_registered ON client (project_id, last_registered_at);
CREATE UNIQUE INDEX client_url ON client (project_id, url) WHERE url <> '';
CREATE UNIQUE INDEX client_merged ON client (project_id, metadata_hash) WHERE merged;
-- It is asked for every token, and has only who is barred.
CREATE INDEX client_barred ON client (id) WHERE blocked;

-- Logos, each a PNG that we drew, under the SHA-256 of its bytes in hex.

CREATE TABLE client_logo (
    project_id TEXT NOT NULL,
    client_id  TEXT NOT NULL,
    digest     TEXT NOT NULL,
    png        BYTEA NOT NULL,
    PRIMARY KEY (project_id, client_id),
    FOREIGN KEY (project_id, client_id) REFERENCES client (project_id, id) ON DELETE CASCADE
);
CREATE INDEX client_logo_digest ON client_logo (project_id, digest);

CREATE TABLE organization_logo (
    project_id      TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    digest          TEXT NOT NULL,
    png             BYTEA NOT NULL,
    PRIMARY KEY (project_id, organization_id),
    FOREIGN KEY (project_id, organization_id) REFERENCES organization (project_id, id) ON DELETE CASCADE
);
CREATE INDEX organization_logo_digest ON organization_logo (project_id, digest);

CREATE TABLE project_logo (
    project_id TEXT PRIMARY KEY REFERENCES project (project_id),
    digest     TEXT NOT NULL,
    png        BYTEA NOT NULL
);

CREATE TABLE "grant" (
    project_id   TEXT NOT NULL,
    id           TEXT NOT NULL,
    subject      TEXT NOT NULL,
    organization TEXT NOT NULL,
    client_id    TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL, -- when a code was redeemed, or a family was refreshed that is no longer here
    revoked_at   BIGINT NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, subject, organization, client_id),
    FOREIGN KEY (project_id, client_id) REFERENCES client (project_id, id)
);
CREATE INDEX grant_client ON "grant" (project_id, client_id, revoked_at, id);
CREATE INDEX grant_of_organization ON "grant" (project_id, organization, client_id, id) WHERE organization <> '';

CREATE TABLE grant_scope (
    project_id   TEXT NOT NULL,
    grant_id     TEXT NOT NULL,
    resource     TEXT NOT NULL,
    scope        TEXT NOT NULL,
    allowed      BOOLEAN NOT NULL,
    consent_hash BYTEA NOT NULL,
    decided_at   BIGINT NOT NULL,
    PRIMARY KEY (project_id, grant_id, resource, scope),
    FOREIGN KEY (project_id, grant_id) REFERENCES "grant" (project_id, id) ON DELETE CASCADE
);

-- A code has no foreign key to its grant: it lives for a minute, and is dead
-- without one.
CREATE TABLE code (
    project_id     TEXT NOT NULL,
    id             TEXT NOT NULL,
    hash           BYTEA NOT NULL,
    client_id      TEXT NOT NULL,
    grant_id       TEXT NOT NULL,
    subject        TEXT NOT NULL,
    organization   TEXT NOT NULL,
    session_id     TEXT NOT NULL,
    redirect_uri   TEXT NOT NULL,
    challenge      TEXT NOT NULL,
    resource       TEXT NOT NULL,
    scopes         TEXT NOT NULL,
    nonce          TEXT NOT NULL,
    auth_time      BIGINT NOT NULL,
    created_at     BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    tries          BIGINT NOT NULL,
    redeemed_at    BIGINT NOT NULL,
    family_id      TEXT NOT NULL,
    attempt        TEXT NOT NULL, -- code of the authorization attempt
    PRIMARY KEY (project_id, id)
);
CREATE INDEX code_grant ON code (project_id, grant_id);

CREATE TABLE family (
    project_id   TEXT NOT NULL,
    id           TEXT NOT NULL,
    grant_id     TEXT NOT NULL,
    client_id    TEXT NOT NULL,
    subject      TEXT NOT NULL,
    organization TEXT NOT NULL,
    session_id   TEXT NOT NULL,
    resource     TEXT NOT NULL,
    scopes       TEXT NOT NULL,
    nonce        TEXT NOT NULL,
    auth_time    BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    revoked_at   BIGINT NOT NULL,
    attempt      TEXT NOT NULL, -- code of the authorization attempt
    -- Its refresh tokens, of which one lives; empty and 0 where it has none.
    series_hash     BYTEA NOT NULL, -- of what they have in common
    auth_method     TEXT NOT NULL,
    refresh_hash    BYTEA NOT NULL, -- of the live one
    idle_expires_at BIGINT NOT NULL, -- of the live one
    previous_hash   BYTEA NOT NULL, -- of the one whose place it took, empty for none
    rotated_at      BIGINT NOT NULL, -- when it did, 0 for never
    replay          BYTEA, -- the answer that this gave, sealed under the one before
    PRIMARY KEY (project_id, id),
    FOREIGN KEY (project_id, grant_id) REFERENCES "grant" (project_id, id) ON DELETE CASCADE
);
CREATE INDEX family_grant ON family (project_id, grant_id);
CREATE INDEX family_expiry ON family (project_id, expires_at);

-- Access tokens have no rows; those revoked alone are here until they expire.
CREATE TABLE revoked_token (
    project_id TEXT NOT NULL,
    jti        TEXT NOT NULL,
    until      BIGINT NOT NULL,
    PRIMARY KEY (project_id, jti)
);
CREATE INDEX revoked_token_expiry ON revoked_token (project_id, until);

-- Assertions that clients proved themselves with, until nobody would take one of
-- them again.
CREATE TABLE client_assertion (
    project_id TEXT NOT NULL,
    client_id  TEXT NOT NULL,
    jti_hash   BYTEA NOT NULL,
    until      BIGINT NOT NULL,
    PRIMARY KEY (project_id, client_id, jti_hash)
);
CREATE INDEX client_assertion_expiry ON client_assertion (project_id, until);

-- The feed that resource servers follow, without gaps in its sequence.
CREATE TABLE revocation (
    project_id TEXT NOT NULL,
    sequence   BIGINT NOT NULL,
    kind       TEXT NOT NULL,
    value      TEXT NOT NULL,
    until      BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, sequence)
);

-- Exact guess limits (decision 32).
CREATE TABLE counter (
    project_id TEXT NOT NULL,
    kind       TEXT NOT NULL,
    key_hash   BYTEA NOT NULL,
    counted    BIGINT NOT NULL,
    until      BIGINT NOT NULL, -- end of the window that the first count began
    PRIMARY KEY (project_id, kind, key_hash)
);
CREATE INDEX counter_expiry ON counter (project_id, until);

-- Authorization attempts of the last day: one request, from the browser's arrival
-- to the first call. What happened in one is in the events with its code.
CREATE TABLE attempt (
    project_id    TEXT NOT NULL REFERENCES project (project_id),
    id            TEXT NOT NULL,
    code          TEXT NOT NULL,
    client_id     TEXT NOT NULL, -- what the request said, while nobody knows the client
    client_name   TEXT NOT NULL,
    creation      TEXT NOT NULL, -- how the client came to be known, '' while nobody knows it
    redirect_uri  TEXT NOT NULL, -- as asked
    resource      TEXT NOT NULL, -- as asked
    scopes        TEXT NOT NULL, -- as asked
    address       TEXT NOT NULL,
    subject       TEXT NOT NULL, -- who decided, '' before
    state         TEXT NOT NULL,
    step          TEXT NOT NULL,
    step_up       BOOLEAN NOT NULL,
    detail        TEXT NOT NULL, -- of a refusal
    asked         TEXT NOT NULL, -- of a refusal: what was compared and not right
    discovered_at BIGINT NOT NULL,
    registered_at BIGINT NOT NULL,
    started_at    BIGINT NOT NULL,
    called_at     BIGINT NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, code)
);
-- Behind id is what the lists filter by.
CREATE INDEX attempt_state ON attempt (project_id, state, id);
CREATE INDEX attempt_client ON attempt (project_id, client_id, id, state);
CREATE INDEX attempt_address ON attempt (project_id, address, id, state, client_id);
CREATE INDEX attempt_subject ON attempt (project_id, subject, id, state, client_id) WHERE subject <> '';

CREATE TABLE event (
    project_id  TEXT NOT NULL,
    id          TEXT NOT NULL,
    occurred_at BIGINT NOT NULL,
    kind        TEXT NOT NULL,
    actor       TEXT NOT NULL,
    subject     TEXT NOT NULL,
    client_id   TEXT NOT NULL,
    object      TEXT NOT NULL,
    address     TEXT NOT NULL,
    refused     BOOLEAN NOT NULL,
    reason      TEXT NOT NULL,
    trace_id    TEXT NOT NULL, -- of the request
    attempt     TEXT NOT NULL, -- of the authorization attempt that it belongs to, '' for none
    PRIMARY KEY (project_id, id)
);
CREATE INDEX event_attempt ON event (project_id, attempt, id) WHERE attempt <> '';
CREATE INDEX event_trace ON event (project_id, trace_id) WHERE refused;
-- Every event pays for these, and what has none is looked for among the newest
-- events only. A refresh, which is most of what happens, stands in the order of its
-- kind alone: to have it among the events of its client and its person too would
-- write two more pages for each.
CREATE INDEX event_kind ON event (project_id, kind, id);
CREATE INDEX event_client ON event (project_id, client_id, id) WHERE client_id <> '' AND kind <> 'token.refreshed';
CREATE INDEX event_subject ON event (project_id, subject, id) WHERE subject <> '' AND kind <> 'token.refreshed';
CREATE INDEX event_refused ON event (project_id, id) WHERE refused;

-- What vouches for the events: an edit of them in the database shows.
CREATE TABLE event_seal (
    project_id TEXT NOT NULL, -- '' for the deployment's own events
    number     BIGINT NOT NULL, -- from 1, without a gap
    sealed_at  BIGINT NOT NULL,
    marks      BYTEA NOT NULL, -- of each event the id and half a digest
    proof      BYTEA NOT NULL, -- the digest of this row, under the master key
    PRIMARY KEY (project_id, number)
);
