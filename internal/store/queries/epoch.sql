-- What a restored database begins anew with; see BeginEpoch. EndAccess, in
-- project.sql, ends the families.

-- name: EndCodes :execrows
DELETE FROM code WHERE project_id = @project_id;

-- EndFlows takes the codes sent for a flow with it, and who is at a provider.
-- name: EndFlows :execrows
DELETE FROM flow WHERE project_id = @project_id;

-- name: EndAllSessions :execrows
DELETE FROM session WHERE project_id = @project_id;

-- name: EndAllBrowsers :execrows
DELETE FROM browser WHERE project_id = @project_id;

-- SkipCounters leaves out the numbers that the lost transactions may have given.
-- name: SkipCounters :exec
UPDATE project_counter SET change = change + @skipped, revocation = revocation + @skipped WHERE project_id = @project_id;

-- name: EndAllAdministratorSessions :execrows
DELETE FROM administrator_session;

-- name: EndAdministratorLinks :execrows
DELETE FROM administrator_link;

-- name: EndAdministratorCeremonies :exec
DELETE FROM administrator_ceremony;

-- name: SkipAdministratorCodes :exec
UPDATE administrator SET totp_step = @step WHERE totp_step < @step;

-- name: EndNodes :exec
DELETE FROM node;
