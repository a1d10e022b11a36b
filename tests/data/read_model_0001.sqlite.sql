BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE configuration (
	id VARCHAR(128) NOT NULL, 
	name TEXT NOT NULL, 
	modules JSON NOT NULL, 
	overlays JSON NOT NULL, 
	current_generation INTEGER NOT NULL, 
	last_generation INTEGER NOT NULL, 
	activated_at DATETIME, 
	version BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_configuration PRIMARY KEY (id)
);
INSERT INTO "configuration" VALUES('host','host','["base", "gone"]','[]',1,2,'2026-11-23 15:49:45.637649',5,20,'2026-11-23 15:49:45.634412','2026-11-23 15:49:45.637649');
CREATE TABLE configuration_change (
	configuration_id VARCHAR(128) NOT NULL, 
	version BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	change VARCHAR(128) NOT NULL, 
	generation INTEGER, 
	from_generation INTEGER, 
	activation VARCHAR(16), 
	actor TEXT, 
	event_id VARCHAR(36) NOT NULL, 
	changed_at DATETIME NOT NULL, 
	CONSTRAINT pk_configuration_change PRIMARY KEY (configuration_id, version), 
	CONSTRAINT fk_configuration_change_configuration_id_configuration FOREIGN KEY(configuration_id) REFERENCES configuration (id)
);
INSERT INTO "configuration_change" VALUES('host',1,16,'ConfigurationCreated',NULL,NULL,NULL,NULL,'bd580206-0177-4502-ad77-70b67f339ce3','2026-11-23 15:49:45.634412');
INSERT INTO "configuration_change" VALUES('host',2,17,'ConfigurationActivated',1,NULL,'switch',NULL,'780592d8-21ae-40e7-85f5-62298c51de28','2026-11-23 15:49:45.635237');
INSERT INTO "configuration_change" VALUES('host',3,18,'ConfigurationUpdated',NULL,NULL,NULL,NULL,'5f1f31f0-0310-43b2-ba2a-0c4b352c046c','2026-11-23 15:49:45.636066');
INSERT INTO "configuration_change" VALUES('host',4,19,'ConfigurationActivated',2,NULL,'boot',NULL,'6d6d7408-dc36-48b9-83ad-e1a72f8444cd','2026-11-23 15:49:45.636884');
INSERT INTO "configuration_change" VALUES('host',5,20,'ConfigurationRolledBack',1,2,NULL,NULL,'d7a4f361-0f60-4cf4-8d29-e91e809ccfe7','2026-11-23 15:49:45.637649');
CREATE TABLE configuration_generation (
	configuration_id VARCHAR(128) NOT NULL, 
	generation INTEGER NOT NULL, 
	activation VARCHAR(16) NOT NULL, 
	modules JSON NOT NULL, 
	overlays JSON NOT NULL, 
	activated_at DATETIME NOT NULL, 
	version BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	CONSTRAINT pk_configuration_generation PRIMARY KEY (configuration_id, generation), 
	CONSTRAINT fk_configuration_generation_configuration_id_configuration FOREIGN KEY(configuration_id) REFERENCES configuration (id)
);
INSERT INTO "configuration_generation" VALUES('host',1,'switch','["base"]','["patched"]','2026-11-23 15:49:45.635237',2,17);
INSERT INTO "configuration_generation" VALUES('host',2,'boot','["base", "gone"]','[]','2026-11-23 15:49:45.636884',4,19);
CREATE TABLE flake (
	id VARCHAR(128) NOT NULL, 
	path TEXT NOT NULL, 
	description TEXT NOT NULL, 
	template TEXT, 
	version BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_flake PRIMARY KEY (id)
);
INSERT INTO "flake" VALUES('web','./web','The web site — with 💙','python',5,5,'2026-11-23 15:49:45.609716','2026-11-23 15:49:45.620040');
CREATE TABLE flake_input (
	flake_id VARCHAR(128) NOT NULL, 
	name TEXT NOT NULL, 
	url TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_flake_input PRIMARY KEY (flake_id, name), 
	CONSTRAINT fk_flake_input_flake_id_flake FOREIGN KEY(flake_id) REFERENCES flake (id)
);
INSERT INTO "flake_input" VALUES('web','nixpkgs','github:NixOS/nixpkgs/nixos-25.11',4,4,'2026-11-23 15:49:45.613159','2026-11-23 15:49:45.619039');
CREATE TABLE module (
	id VARCHAR(128) NOT NULL, 
	name TEXT NOT NULL, 
	content TEXT NOT NULL, 
	deleted BOOLEAN NOT NULL, 
	version BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_module PRIMARY KEY (id)
);
INSERT INTO "module" VALUES('base','base','{ ... }: {
  services.openssh.enable = false; # ''quoted'' "twice"
}',0,2,9,'2026-11-23 15:49:45.627840','2026-11-23 15:49:45.628743');
INSERT INTO "module" VALUES('gone','gone','',1,2,11,'2026-11-23 15:49:45.629604','2026-11-23 15:49:45.630420');
CREATE TABLE overlay (
	id VARCHAR(128) NOT NULL, 
	name TEXT NOT NULL, 
	content TEXT NOT NULL, 
	deleted BOOLEAN NOT NULL, 
	version BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_overlay PRIMARY KEY (id)
);
INSERT INTO "overlay" VALUES('patched','patched','final: prev: { hello = prev.hello; }',0,2,13,'2026-11-23 15:49:45.631247','2026-11-23 15:49:45.632151');
INSERT INTO "overlay" VALUES('old','old','',1,2,15,'2026-11-23 15:49:45.632903','2026-11-23 15:49:45.633629');
CREATE TABLE package (
	id VARCHAR(128) NOT NULL, 
	flake_ref TEXT NOT NULL, 
	attribute TEXT NOT NULL, 
	output_path TEXT NOT NULL, 
	build_time_ms BIGINT, 
	builds INTEGER NOT NULL, 
	built_at DATETIME NOT NULL, 
	cache_url TEXT, 
	cached_at DATETIME, 
	version BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_package PRIMARY KEY (id)
);
INSERT INTO "package" VALUES('site','./web','packages.x86_64-linux.site','/nix/store/aaa-site',NULL,1,'2026-11-23 15:49:45.621062','https://cache.example.org','2026-11-23 15:49:45.621968',2,7,'2026-11-23 15:49:45.621062','2026-11-23 15:49:45.621968');
CREATE TABLE package_cache (
	package_id VARCHAR(128) NOT NULL, 
	cache_url TEXT NOT NULL, 
	output_path TEXT NOT NULL, 
	cached_at DATETIME NOT NULL, 
	version BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	CONSTRAINT pk_package_cache PRIMARY KEY (package_id, cache_url), 
	CONSTRAINT fk_package_cache_package_id_package FOREIGN KEY(package_id) REFERENCES package (id)
);
INSERT INTO "package_cache" VALUES('site','https://cache.example.org','/nix/store/aaa-site','2026-11-23 15:49:45.621968',2,7);
CREATE TABLE projection (
	name VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	position BIGINT NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_projection PRIMARY KEY (name)
);
INSERT INTO "projection" VALUES('flakes',1,20,'2026-11-23 15:49:45.791156');
INSERT INTO "projection" VALUES('packages',1,20,'2026-11-23 15:49:45.791156');
INSERT INTO "projection" VALUES('modules',1,20,'2026-11-23 15:49:45.791156');
INSERT INTO "projection" VALUES('overlays',1,20,'2026-11-23 15:49:45.791156');
INSERT INTO "projection" VALUES('configurations',1,20,'2026-11-23 15:49:45.791156');
CREATE INDEX ix_configuration_name_id ON configuration (name, id);
CREATE INDEX ix_flake_path_id ON flake (path, id);
CREATE INDEX ix_module_name_id ON module (name, id);
CREATE INDEX ix_overlay_name_id ON overlay (name, id);
CREATE INDEX ix_package_flake_ref_attribute_id ON package (flake_ref, attribute, id);
COMMIT;
