ALTER TABLE admin_keys ADD COLUMN member_id TEXT REFERENCES members (id);
CREATE INDEX admin_keys_member ON admin_keys (member_id, key);
