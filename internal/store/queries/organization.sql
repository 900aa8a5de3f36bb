-- name: Organization :one
SELECT project_id, id, name, slug, external_id, active, settings, trusted_metadata, roles, logo, version, created_at, updated_at
FROM organization WHERE project_id = @project_id AND id = @id;

-- name: OrganizationBySlug :one
SELECT project_id, id, name, slug, external_id, active, settings, trusted_metadata, roles, logo, version, created_at, updated_at
FROM organization WHERE project_id = @project_id AND slug = @slug;

-- Organizations are found as users are: by a range of ids or by one of slugs.

-- name: Organizations :many
SELECT project_id, id, name, slug, external_id, active, settings, trusted_metadata, roles, logo, version, created_at, updated_at
FROM organization
WHERE project_id = @project_id AND id >= @from_id AND id < @below_id
ORDER BY id LIMIT @max_rows;

-- name: OrganizationsBySlug :many
SELECT project_id, id, name, slug, external_id, active, settings, trusted_metadata, roles, logo, version, created_at, updated_at
FROM organization
WHERE project_id = @project_id AND slug >= @from_text AND slug < @below_text
  AND NOT (id >= @from_id AND id < @below_id)
ORDER BY slug LIMIT @max_rows;

-- name: CreateOrganization :execrows
INSERT INTO organization (project_id, id, name, slug, external_id, active, settings, trusted_metadata, roles, logo, version, created_at, updated_at)
VALUES (@project_id, @id, @name, @slug, @external_id, @active, @settings, @trusted_metadata, @roles, '', 1, @created_at, @updated_at)
ON CONFLICT DO NOTHING;

-- SaveOrganization changes nothing when somebody else changed the row since
-- version was read.
-- name: SaveOrganization :execrows
UPDATE organization SET name = @name, slug = @slug, external_id = @external_id, active = @active, settings = @settings,
    trusted_metadata = @trusted_metadata, roles = @roles, version = version + 1, updated_at = @updated_at
WHERE project_id = @project_id AND id = @id AND version = @version;

-- LockOrganization makes changes of an organization's members wait for each
-- other, where the number of its administrators counts, and the end of its
-- connection for a change of its settings.
-- name: LockOrganization :execrows
UPDATE organization SET updated_at = updated_at WHERE project_id = @project_id AND id = @id;

-- name: DeleteOrganization :execrows
DELETE FROM organization WHERE project_id = @project_id AND id = @id;

-- name: DeleteOrganizationDomains :exec
DELETE FROM organization_domain WHERE project_id = @project_id AND organization_id = @organization_id;

-- name: CreateOrganizationDomain :exec
INSERT INTO organization_domain (project_id, domain, organization_id) VALUES (@project_id, @domain, @organization_id)
ON CONFLICT DO NOTHING;

-- name: Member :one
SELECT project_id, id, organization_id, email, email_folded, name, status, roles, is_admin, external_id, trusted_metadata, untrusted_metadata, version, created_at, updated_at, last_sign_in_at, invited_at, proofs_after
FROM member WHERE project_id = @project_id AND id = @id AND organization_id = @organization_id;

-- MemberByEmail finds the member who is not removed.
-- name: MemberByEmail :one
SELECT project_id, id, organization_id, email, email_folded, name, status, roles, is_admin, external_id, trusted_metadata, untrusted_metadata, version, created_at, updated_at, last_sign_in_at, invited_at, proofs_after
FROM member
WHERE project_id = @project_id AND organization_id = @organization_id AND email_folded = @email_folded AND status <> 'deleted';

-- name: RemovedMembersAt :one
SELECT count(*) FROM member
WHERE project_id = @project_id AND organization_id = @organization_id AND email_folded = @email_folded AND status = 'deleted';

-- MemberAndOrganization is what every decision about a member reads.
-- name: MemberAndOrganization :one
SELECT sqlc.embed(m), sqlc.embed(o)
FROM member m JOIN organization o ON o.project_id = m.project_id AND o.id = m.organization_id
WHERE m.project_id = @project_id AND m.id = @id AND m.organization_id = @organization_id;

-- Members lists those who are not removed where status is ''. A text that can be
-- taken out is in it: both databases do that alike, letter by letter.
-- name: Members :many
SELECT project_id, id, organization_id, email, email_folded, name, status, roles, is_admin, external_id, trusted_metadata, untrusted_metadata, version, created_at, updated_at, last_sign_in_at, invited_at, proofs_after
FROM member
WHERE project_id = @project_id AND organization_id = @organization_id AND id > @after
  AND (CAST(@status AS text) = '' AND status <> 'deleted' OR status = @status)
  AND (CAST(@part AS text) = '' OR replace(email_folded, @part, '') <> email_folded OR id = @whole)
  AND (CAST(@role AS text) = '' OR replace(roles, @role, '') <> roles)
ORDER BY id LIMIT @max_rows;

-- Memberships are the organizations that an address belongs to or is invited
-- to, the one it was in last first.
-- name: Memberships :many
SELECT sqlc.embed(m), sqlc.embed(o)
FROM member m JOIN organization o ON o.project_id = m.project_id AND o.id = m.organization_id
WHERE m.project_id = @project_id AND m.email_folded = @email_folded AND m.status <> 'deleted' AND o.active
ORDER BY m.last_sign_in_at DESC, m.id LIMIT @max_rows;

-- JoinableOrganizations are those that let in everybody of a domain and never
-- had this address as a member.
-- name: JoinableOrganizations :many
SELECT sqlc.embed(o)
FROM organization_domain d JOIN organization o ON o.project_id = d.project_id AND o.id = d.organization_id
WHERE d.project_id = @project_id AND d.domain = @domain AND o.active
  AND NOT EXISTS (SELECT 1 FROM member m
                  WHERE m.project_id = @project_id AND m.email_folded = @email_folded AND m.organization_id = d.organization_id)
ORDER BY d.organization_id LIMIT @max_rows;

-- name: CanJoinByDomain :one
SELECT count(*) FROM organization_domain
WHERE project_id = @project_id AND domain = @domain AND organization_id = @organization_id;

-- name: CreateMember :execrows
INSERT INTO member (project_id, id, organization_id, email, email_folded, name, status, roles, is_admin, external_id,
    trusted_metadata, untrusted_metadata, version, created_at, updated_at, last_sign_in_at, invited_at, proofs_after)
VALUES (@project_id, @id, @organization_id, @email, @email_folded, @name, @status, @roles, @is_admin, @external_id,
    @trusted_metadata, @untrusted_metadata, 1, @created_at, @updated_at, @last_sign_in_at, @invited_at, 0)
ON CONFLICT DO NOTHING;

-- MemberEnters finds nobody whose organization is suspended, or who was removed.
-- Whether the proof is new enough is known once the row is held.
-- name: MemberEnters :one
UPDATE member SET status = 'active', last_sign_in_at = @now, version = CASE WHEN status = 'active' THEN version ELSE version + 1 END
WHERE member.project_id = @project_id AND member.id = @id AND member.status <> 'deleted'
  AND EXISTS (SELECT 1 FROM organization o WHERE o.project_id = @project_id AND o.id = member.organization_id AND o.active)
RETURNING proofs_after;

-- EndMemberProofs holds the row: who goes in at the same time is seen afterwards,
-- or finds that the proof is too old.
-- name: EndMemberProofs :execrows
UPDATE member SET proofs_after = @now WHERE project_id = @project_id AND id = @id;

-- name: SaveMember :execrows
UPDATE member SET name = @name, status = @status, roles = @roles, is_admin = @is_admin, external_id = @external_id,
    trusted_metadata = @trusted_metadata, untrusted_metadata = @untrusted_metadata, version = version + 1, updated_at = @updated_at,
    invited_at = @invited_at
WHERE project_id = @project_id AND id = @id AND organization_id = @organization_id AND version = @version;

-- name: Admins :one
SELECT count(*) FROM member
WHERE project_id = @project_id AND organization_id = @organization_id AND is_admin AND status = 'active';

-- RevokeGrantsInOrganization ends what members ever allowed.
-- name: RevokeGrantsInOrganization :many
UPDATE "grant" SET revoked_at = @now
WHERE project_id = @project_id AND organization = @organization AND organization <> '' AND revoked_at = 0
RETURNING id;

-- Browsers of a B2B project. Statements name the condition of an index that they
-- need, for SQLite does not find it by itself.

-- name: CreateBrowser :exec
INSERT INTO browser (project_id, id, secret_hash, email, email_folded, factors, organization_id, address, user_agent, created_at, last_seen_at, idle_expires_at, expires_at)
VALUES (@project_id, @id, @secret_hash, @email, @email_folded, @factors, '', @address, @user_agent, @created_at, @last_seen_at, @idle_expires_at, @expires_at);

-- name: Browser :one
SELECT project_id, id, secret_hash, email, email_folded, factors, organization_id, address, user_agent, created_at, last_seen_at, idle_expires_at, expires_at
FROM browser
WHERE project_id = @project_id AND id = @id AND idle_expires_at > @now AND expires_at > @now;

-- name: BrowserSession :one
SELECT sqlc.embed(s), sqlc.embed(m), sqlc.embed(o)
FROM session s
JOIN member m ON m.project_id = s.project_id AND m.id = s.subject
JOIN organization o ON o.project_id = s.project_id AND o.id = s.organization_id
WHERE s.project_id = @project_id AND s.browser_id = @browser_id AND s.browser_id <> '' AND s.organization_id = @organization_id
  AND s.expires_at > @now AND m.status = 'active' AND o.active;

-- name: ChooseOrganization :execrows
UPDATE browser SET organization_id = @organization_id
WHERE project_id = @project_id AND id = @id AND idle_expires_at > @now AND expires_at > @now;

-- name: TouchBrowser :exec
UPDATE browser SET last_seen_at = @last_seen_at, idle_expires_at = @idle_expires_at
WHERE project_id = @project_id AND id = @id
  AND idle_expires_at > @last_seen_at AND expires_at > @last_seen_at AND last_seen_at < @last_seen_at;

-- TouchBrowserSessions lets the sessions below a browser live as long as it.
-- name: TouchBrowserSessions :exec
UPDATE session SET idle_expires_at = @idle_expires_at WHERE project_id = @project_id AND browser_id = @browser_id AND browser_id <> '';

-- name: EndBrowser :execrows
DELETE FROM browser WHERE project_id = @project_id AND id = @id;

-- name: EndBrowserSession :exec
DELETE FROM session WHERE project_id = @project_id AND browser_id = @browser_id AND browser_id <> '' AND organization_id = @organization_id;

-- name: EndBrowserSessions :exec
DELETE FROM session WHERE project_id = @project_id AND browser_id = @browser_id AND browser_id <> '';

-- BrowsersOfSubject are those that a member is signed in from.
-- name: BrowsersOfSubject :many
SELECT browser_id FROM session WHERE project_id = @project_id AND subject = @subject AND browser_id <> '';

-- name: BrowsersOfAddress :many
SELECT id FROM browser WHERE project_id = @project_id AND email_folded = @email_folded;

-- EndOldBrowserSessions leaves the newest of a browser.
-- name: EndOldBrowserSessions :exec
DELETE FROM session WHERE session.project_id = @project_id AND session.browser_id = @browser_id AND session.id IN (
    SELECT s.id FROM session s WHERE s.project_id = @project_id AND s.browser_id = @browser_id AND s.browser_id <> ''
    ORDER BY s.created_at DESC, s.id DESC LIMIT 1000 OFFSET @keep);

-- name: EndSessionsOfOrganization :exec
DELETE FROM session WHERE project_id = @project_id AND organization_id = @organization_id AND organization_id <> '';
