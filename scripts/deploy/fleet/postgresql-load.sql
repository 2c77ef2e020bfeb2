-- psql -f postgresql-load.sql < laggard.ndjson
-- The quote and the delimiter are bytes that laggard never prints (control characters are escaped), so that COPY takes
-- each line as it is: its text format would take JSON's backslashes for its own.
\copy laggard_lines (line) from pstdin with (format csv, quote e'\x01', delimiter e'\x02')
