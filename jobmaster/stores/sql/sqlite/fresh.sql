CREATE TABLE jm_agent_bucket (
	id INTEGER NOT NULL, 
	epoch BIGINT NOT NULL, 
	closing SMALLINT DEFAULT 0 NOT NULL, 
	PRIMARY KEY (id)
);

CREATE TABLE jm_attempt (
	job_id BLOB NOT NULL, 
	attempt INTEGER NOT NULL, 
	status INTEGER NOT NULL, 
	worker BIGINT, 
	bucket BIGINT, 
	started_us BIGINT, 
	finished_us BIGINT, 
	reason VARCHAR(64) DEFAULT '' NOT NULL, 
	error BLOB, 
	PRIMARY KEY (job_id, attempt)
);

CREATE TABLE jm_blame (
	job_id BLOB NOT NULL, 
	worker BIGINT NOT NULL, 
	reason VARCHAR(255) DEFAULT '' NOT NULL, 
	counted SMALLINT DEFAULT 0 NOT NULL, 
	created_us BIGINT NOT NULL, 
	PRIMARY KEY (job_id, worker)
);

CREATE TABLE jm_bucket (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	token VARCHAR(255) DEFAULT '' NOT NULL, 
	agent VARCHAR(255) DEFAULT '' NOT NULL, 
	lane VARCHAR(255) DEFAULT '' NOT NULL, 
	priority INTEGER NOT NULL, 
	epoch BIGINT NOT NULL, 
	status INTEGER NOT NULL, 
	owner BIGINT, 
	adopted_us BIGINT NOT NULL, 
	left_us BIGINT NOT NULL, 
	depth BIGINT DEFAULT 0 NOT NULL, 
	clean SMALLINT DEFAULT 0 NOT NULL
);

CREATE INDEX jm_bucket_owner ON jm_bucket (owner);

CREATE INDEX jm_bucket_place ON jm_bucket (agent, lane, priority, status);

CREATE UNIQUE INDEX jm_bucket_token ON jm_bucket (token);

CREATE TABLE jm_cluster (
	id INTEGER NOT NULL, 
	cluster VARCHAR(255) DEFAULT '' NOT NULL, 
	version INTEGER NOT NULL, 
	settings BLOB NOT NULL, 
	PRIMARY KEY (id)
);

CREATE TABLE jm_command (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	worker BIGINT NOT NULL, 
	verb VARCHAR(64) DEFAULT '' NOT NULL, 
	args BLOB NOT NULL, 
	created_us BIGINT NOT NULL, 
	answered_us BIGINT, 
	reply BLOB
);

CREATE INDEX jm_command_open ON jm_command (worker, id) WHERE answered_us IS NULL;

CREATE TABLE jm_definition (
	name VARCHAR(255) NOT NULL, 
	lane VARCHAR(255) DEFAULT '' NOT NULL, 
	priority INTEGER DEFAULT 3 NOT NULL, 
	at_most_once SMALLINT DEFAULT 0 NOT NULL, 
	signature BLOB NOT NULL, 
	source BLOB NOT NULL, 
	defaults BLOB NOT NULL, 
	PRIMARY KEY (name)
);

CREATE TABLE jm_job (
	id BLOB NOT NULL, 
	status INTEGER NOT NULL, 
	gen INTEGER NOT NULL, 
	bucket BIGINT, 
	nonce BIGINT, 
	task VARCHAR(255) DEFAULT '' NOT NULL, 
	lane VARCHAR(255) DEFAULT '' NOT NULL, 
	priority INTEGER NOT NULL, 
	at_most_once SMALLINT DEFAULT 0 NOT NULL, 
	created_us BIGINT NOT NULL, 
	scheduled_us BIGINT NOT NULL, 
	due_us BIGINT NOT NULL, 
	touched_us BIGINT NOT NULL, 
	expires_us BIGINT, 
	started_us BIGINT, 
	finished_us BIGINT, 
	attempts INTEGER DEFAULT 0 NOT NULL, 
	failures INTEGER DEFAULT 0 NOT NULL, 
	recoveries INTEGER DEFAULT 0 NOT NULL, 
	suspect SMALLINT DEFAULT 0 NOT NULL, 
	reason VARCHAR(64) DEFAULT '' NOT NULL, 
	worker BIGINT, 
	custom_id VARCHAR(255), 
	trigger_kind INTEGER DEFAULT 1 NOT NULL, 
	payload BLOB NOT NULL, 
	result BLOB, 
	result_until_us BIGINT, 
	error BLOB, 
	checkpoint BLOB, 
	PRIMARY KEY (id)
);

CREATE INDEX jm_job_created ON jm_job (created_us, id);

CREATE INDEX jm_job_expires ON jm_job (expires_us) WHERE status = 2 AND expires_us IS NOT NULL;

CREATE INDEX jm_job_failed ON jm_job (created_us, id) WHERE status = 7;

CREATE INDEX jm_job_finished ON jm_job (finished_us) WHERE finished_us IS NOT NULL;

CREATE INDEX jm_job_held ON jm_job (lane, priority, due_us) WHERE status = 2 AND reason <> 'unroutable';

CREATE INDEX jm_job_open ON jm_job (bucket, status) WHERE status IN (3, 4, 6);

CREATE INDEX jm_job_result ON jm_job (result_until_us) WHERE result_until_us IS NOT NULL;

CREATE INDEX jm_job_unroutable ON jm_job (task) WHERE status = 2 AND reason = 'unroutable';

CREATE TABLE jm_message (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	bucket BIGINT NOT NULL, 
	job_id BLOB NOT NULL, 
	gen INTEGER NOT NULL, 
	due_us BIGINT NOT NULL, 
	later SMALLINT DEFAULT 0 NOT NULL, 
	verify SMALLINT DEFAULT 0 NOT NULL, 
	at_most_once SMALLINT DEFAULT 0 NOT NULL, 
	task VARCHAR(255) DEFAULT '' NOT NULL, 
	custom_id VARCHAR(255), 
	created_us BIGINT NOT NULL, 
	payload BLOB NOT NULL
);

CREATE INDEX jm_message_bucket ON jm_message (bucket, seq);

CREATE UNIQUE INDEX jm_message_key ON jm_message (job_id, gen, bucket);

CREATE INDEX jm_message_later ON jm_message (bucket, due_us, seq) WHERE later = 1;

CREATE TABLE jm_occurrence (
	schedule BLOB NOT NULL, 
	at_us BIGINT NOT NULL, 
	job_id BLOB NOT NULL, 
	trigger_kind INTEGER NOT NULL, 
	waits SMALLINT DEFAULT 0 NOT NULL, 
	created_us BIGINT NOT NULL, 
	PRIMARY KEY (schedule, at_us)
);

CREATE INDEX jm_occurrence_at ON jm_occurrence (at_us);

CREATE INDEX jm_occurrence_waits ON jm_occurrence (schedule, at_us) WHERE waits = 1;

CREATE TABLE jm_schedule (
	id BLOB NOT NULL, 
	name VARCHAR(255) DEFAULT '' NOT NULL, 
	kind INTEGER NOT NULL, 
	status INTEGER NOT NULL, 
	paused SMALLINT DEFAULT 0 NOT NULL, 
	error VARCHAR(1000) DEFAULT '' NOT NULL, 
	expression TEXT NOT NULL, 
	rule BLOB NOT NULL, 
	task VARCHAR(255) DEFAULT '' NOT NULL, 
	lane VARCHAR(255) DEFAULT '' NOT NULL, 
	priority INTEGER NOT NULL, 
	template BLOB NOT NULL, 
	source VARCHAR(255) DEFAULT '' NOT NULL, 
	version BIGINT NOT NULL, 
	created_us BIGINT NOT NULL, 
	since_us BIGINT NOT NULL, 
	cursor_us BIGINT, 
	plan_at_us BIGINT, 
	last_at_us BIGINT, 
	ensured_us BIGINT NOT NULL, 
	ended_us BIGINT, 
	current_job BLOB, 
	PRIMARY KEY (id)
);

CREATE INDEX jm_schedule_due ON jm_schedule (plan_at_us) WHERE plan_at_us IS NOT NULL;

CREATE UNIQUE INDEX jm_schedule_name ON jm_schedule (name) WHERE name <> '' AND status <> 3;

CREATE TABLE jm_tombstone (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	job_id BLOB NOT NULL, 
	created_us BIGINT NOT NULL, 
	answer VARCHAR(16) DEFAULT '' NOT NULL
);

CREATE UNIQUE INDEX jm_tombstone_job ON jm_tombstone (job_id);

CREATE TABLE jm_worker (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR(255) DEFAULT '' NOT NULL, 
	boot BIGINT NOT NULL, 
	agent VARCHAR(255) DEFAULT '' NOT NULL, 
	lanes BLOB NOT NULL, 
	mode INTEGER NOT NULL, 
	host VARCHAR(255) DEFAULT '' NOT NULL, 
	pid BIGINT NOT NULL, 
	slots BIGINT NOT NULL, 
	version VARCHAR(255) DEFAULT '' NOT NULL, 
	schema_version VARCHAR(32) DEFAULT '' NOT NULL, 
	started_us BIGINT NOT NULL, 
	renewed_us BIGINT NOT NULL, 
	lease_until_us BIGINT NOT NULL, 
	number BIGINT DEFAULT 0 NOT NULL, 
	ended SMALLINT DEFAULT 0 NOT NULL, 
	stopping SMALLINT DEFAULT 0 NOT NULL, 
	stats BLOB NOT NULL, 
	demands BLOB NOT NULL
);

CREATE INDEX jm_worker_living ON jm_worker (agent) WHERE ended = 0;

CREATE UNIQUE INDEX jm_worker_name ON jm_worker (name, boot);

CREATE TABLE jm_schema (
	version_num VARCHAR(32) NOT NULL, oldest_code VARCHAR(32) DEFAULT '' NOT NULL, 
	CONSTRAINT jm_schema_pkc PRIMARY KEY (version_num)
);

INSERT INTO jm_schema (version_num, oldest_code) VALUES ('0002', '0001');
