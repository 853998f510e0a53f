CREATE INDEX audit_log_actor ON audit_log (account_id, actor_id, key);
CREATE INDEX audit_log_time ON audit_log (account_id, created_at_ms);
