-- expand: how often an update was delivered (Telegram repeats what was not answered), and which release processed it.
-- A constant default rewrites no row, and older code may go on inserting without these columns.
ALTER TABLE messages
    ADD COLUMN deliveries   integer NOT NULL DEFAULT 1,
    ADD COLUMN processed_by text;

CREATE INDEX messages_unprocessed ON messages (id) WHERE processed_at IS NULL;
