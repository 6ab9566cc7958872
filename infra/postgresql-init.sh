#!/bin/sh
# The image of PostgreSQL runs this once, in an empty cluster: a role and its databases for each line of the pgpass file.
set -eu
while IFS=: read -r _ _ database role password; do
    [ "$role" = "$POSTGRES_USER" ] && continue
    psql -q -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v role="$role" -v password="$password" \
        -v database="$database" <<'SQL'
SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', :'role', :'password')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'role') \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'database') \gexec
SQL
done < "$ROLES_FILE"
