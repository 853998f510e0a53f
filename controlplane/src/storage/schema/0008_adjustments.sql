ALTER TABLE adjustments ADD COLUMN expires_at_ms BIGINT;
