CREATE TABLE slug_owners (
    slug TEXT NOT NULL PRIMARY KEY, account_id TEXT NOT NULL REFERENCES accounts (id), UNIQUE (slug, account_id)
);
CREATE TABLE sites (
    {ROW},
    slug TEXT NOT NULL, settings TEXT NOT NULL, sealed_headers {BLOB}, archived_at_ms BIGINT,
    FOREIGN KEY (slug, account_id) REFERENCES slug_owners (slug, account_id)
);
CREATE UNIQUE INDEX sites_slug ON sites (slug) WHERE archived_at_ms IS NULL;
CREATE INDEX sites_slug_key ON sites (slug, key);
CREATE INDEX sites_account ON sites (account_id, key);
CREATE TABLE site_hosts (
    host TEXT NOT NULL PRIMARY KEY, site_id TEXT NOT NULL REFERENCES sites (id), account_id TEXT NOT NULL
);
CREATE INDEX site_hosts_site ON site_hosts (site_id);
CREATE TABLE resources (
    {ROW},
    site_id TEXT NOT NULL REFERENCES sites (id), settings TEXT NOT NULL, archived_at_ms BIGINT
);
CREATE INDEX resources_site ON resources (site_id, key);
CREATE TABLE plans (
    {ROW},
    site_id TEXT NOT NULL REFERENCES sites (id), reference TEXT NOT NULL, settings TEXT NOT NULL,
    immediate_from_ms BIGINT NOT NULL, archived_at_ms BIGINT
);
CREATE UNIQUE INDEX plans_reference ON plans (site_id, reference) WHERE archived_at_ms IS NULL;
CREATE INDEX plans_site ON plans (site_id, key);
CREATE TABLE plan_revisions (
    {ROW},
    plan_id TEXT NOT NULL REFERENCES plans (id), settings TEXT NOT NULL, applies_until_ms BIGINT NOT NULL
);
CREATE INDEX plan_revisions_plan ON plan_revisions (plan_id, key);
