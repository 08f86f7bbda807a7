# Sourced by bench/run: images through the wrapper against its peers, and what they cost in time, memory and requests.

# Registers device $1 without a front end's answer and prints its token.
device() { sql -c "SELECT tms.register_device('$1', 'http://127.0.0.1:9')"; }

# Milliseconds that each psql command with timing takes; the statements are on stdin.
timed() { (echo '\timing on'; cat) | psql -Xq -v ON_ERROR_STOP=1 "$@" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'; }

# register_photos CODE: copies photographs into the store and ingests their rows, one call.
register_photos()
{
	local code=$1 token ledger n=0 file hash path
	token=$(device "$code") ledger=$(cat /proc/sys/kernel/random/uuid)
	: >"$sandbox/rows.tsv"
	: >"$sandbox/curl.conf"
	for file in "$photos"/*.jpg; do
		n=$((n + 1))
		hash=$(sha256sum <"$file" | cut -d' ' -f1)
		path=2026/bench/$n-$hash.jpg
		mkdir -p "$sandbox/store/objects/$code/2026/bench"
		cp "$file" "$sandbox/store/objects/$code/$path"
		printf '%d\t%s\t%d\t%s\n' "$n" "$path" "$(stat -c %s "$file")" "$hash" >>"$sandbox/rows.tsv"
		echo "url = \"$store_url/$code/$path\"" >>"$sandbox/curl.conf"
		echo 'output = "/dev/null"' >>"$sandbox/curl.conf"
	done
	chmod -R a+rX "$sandbox/store/objects"
	sql <<-SQL >/dev/null
		CREATE TEMP TABLE given (n int, path text, bytes int, hash text);
		\copy given FROM '$sandbox/rows.tsv'
		SELECT i.* FROM (SELECT count(*)::int n, array_agg(now() - n * interval '1 second' ORDER BY n) at,
			array_agg(path ORDER BY n) path, array_agg(bytes ORDER BY n) bytes,
			array_agg(decode(hash, 'hex') ORDER BY n) hash FROM given) g,
		tms.ingest(jsonb_build_object('device', '$code', 'token', '$token', 'ledger', '$ledger', 'oldest_seq', 1, 'last_seq', n,
			'first_seq', 1, 'uploaded_seq', n, 'uploaded_max', n, 'cleaned_seq', 0, 'report_no', 1), at, path, bytes, hash,
			array_fill(NULL::text, ARRAY[n]), array_fill(NULL::text, ARRAY[n]), array_fill(NULL::text, ARRAY[n]),
			array_fill(NULL::text, ARRAY[n]), array_fill(NULL::smallint, ARRAY[n]), array_fill(NULL::smallint, ARRAY[n]),
			array_fill(NULL::text, ARRAY[n]), array_fill(NULL::uuid, ARRAY[n]), array_fill(NULL::jsonb, ARRAY[n])) i;
	SQL
}

# The folder $photos: the one given, or photographs drawn for this run.
photographs()
{
	[ -z "$photos" ] || return 0
	photos=$sandbox/photos
	mkdir "$photos"
	cc -O2 -o "$sandbox/draw" "$sandbox_top/demo/draw.c" -ljpeg && "$sandbox/draw" "$photos" 222
}

# Photographs in one scan, and by those who would do it in another way; in turn, so that all see the same machine.
bench_scan()
{
	local count bytes round peer begin end
	photographs
	register_photos bench-scan
	count=$(sql -c 'SELECT count(*) FROM tms.capture') bytes=$(sql -c 'SELECT sum(image_bytes) FROM tms.capture')
	sql -c 'CREATE TABLE local_images (capture_id bigint, image bytea STORAGE EXTERNAL)' 2>/dev/null ||
		sql -c 'CREATE TABLE local_images (capture_id bigint, image bytea)' -c 'ALTER TABLE local_images ALTER image SET STORAGE EXTERNAL'
	sql -c 'INSERT INTO local_images SELECT capture_id, image FROM capture_image'
	[ "$(sql -c 'SELECT count(image) FROM local_images')" = "$count" ] || { echo 'not all images came' >&2; return 1; }
	for peer in scan images loop local curl; do : >"$sandbox/$peer.s"; done
	for round in 1 2 3 4 5 6 7; do
		timed >"$sandbox/timed" <<-'SQL'
			SELECT count(image) FROM capture_image;
			SELECT sum(get_byte(image, 0)) FROM capture_image;
			SELECT sum(get_byte(image, 0)) FROM tms.images(ARRAY(SELECT capture_id FROM tms.capture));
			DO $$ DECLARE id bigint; BEGIN FOR id IN SELECT capture_id FROM tms.capture LOOP PERFORM get_byte(tms.image(id), 0); END LOOP; END $$;
			SELECT sum(get_byte(image, 0)) FROM local_images;
		SQL
		sed -n 2p "$sandbox/timed" >>"$sandbox/scan.s"
		sed -n 3p "$sandbox/timed" >>"$sandbox/images.s"
		sed -n 4p "$sandbox/timed" >>"$sandbox/loop.s"
		sed -n 5p "$sandbox/timed" >>"$sandbox/local.s"
		begin=$(date +%s%N)
		curl -sS --no-progress-meter --parallel --parallel-max 16 -K "$sandbox/curl.conf"
		end=$(date +%s%N)
		awk -v d=$((end - begin)) 'BEGIN { print d / 1e6 }' >>"$sandbox/curl.s"
	done
	local ours
	ours=$(median <"$sandbox/scan.s")
	result 'scan: photographs' "$count" "$((bytes / 1048576)) MB"
	result 'scan: SELECT image FROM capture_image, warm' "$ours" "ms, $(ratio "$((bytes / 1000))" "$ours") MB/s"
	result 'scan: bytes per second against curl --parallel 16' "$(paired curl scan)" '(at least 0.8)'
	result 'scan: against tms.images(ARRAY(SELECT ...)) in FROM' "$(paired images scan)"
	result 'scan: against a loop that calls tms.image' "$(paired loop scan)"
	result 'scan: against reading a local bytea column' "$(paired local scan)"
	psql -XAtqc 'SELECT count(image) FROM capture_image' -c 'EXPLAIN (ANALYZE, FORMAT JSON) SELECT sum(get_byte(image, 0)) FROM capture_image' |
		sed 1d | jq -r '.[0] | ."Execution Time" as $all | .Plan | recurse(.Plans[]?) | select(."Image Wait Time") | ."Image Wait Time" / $all * 100 | round' |
		while read -r share; do result 'scan: share of the time in which the backend waits' "$share" '%'; done
}

# 32 objects of a store that takes 100 ms for each, against one of them.
bench_latency()
{
	photographs
	[ "$(sql -c 'SELECT count(*) FROM tms.capture')" -ge 32 ] || register_photos bench-latency
	sql -c "ALTER SERVER image_center OPTIONS (SET url 'http://127.0.0.1:$store_port/slow')"
	local concurrency
	for concurrency in 16 32; do
		sql -c "ALTER SERVER image_center OPTIONS (ADD concurrency '$concurrency')"
		timed >"$sandbox/timed" <<-'SQL'
			SELECT count(image) FROM capture_image WHERE capture_id = ANY (ARRAY(SELECT capture_id FROM tms.capture LIMIT 32));
			SELECT count(image) FROM capture_image WHERE capture_id = ANY (ARRAY(SELECT capture_id FROM tms.capture LIMIT 1));
			SELECT count(image) FROM capture_image WHERE capture_id = ANY (ARRAY(SELECT capture_id FROM tms.capture LIMIT 32));
			SELECT count(image) FROM tms.images(ARRAY(SELECT capture_id FROM tms.capture LIMIT 32));
		SQL
		result "latency: one object at 100 ms" "$(sed -n 2p "$sandbox/timed")" ms
		result "latency: 32 of them, concurrency = $concurrency, times one" \
			"$(ratio "$(sed -n 3p "$sandbox/timed")" "$(sed -n 2p "$sandbox/timed")")" "$([ $concurrency = 32 ] && echo '(at most 1.5)')"
		result "latency: the same by tms.images" "$(ratio "$(sed -n 4p "$sandbox/timed")" "$(sed -n 2p "$sandbox/timed")")"
		sql -c 'ALTER SERVER image_center OPTIONS (DROP concurrency)'
	done
	sql -c "ALTER SERVER image_center OPTIONS (SET url '$store_url')"
}

# Rows of captures made up, all of the same object: insert_same COUNT BYTES SHA256 DAYS
insert_same()
{
	sql -c 'DROP TABLE tms.capture; DELETE FROM tms.ledger_day' -c 'SELECT tms.create_capture_table()' >/dev/null
	device bench-same >/dev/null 2>&1 || :
	sql >/dev/null <<-SQL
		INSERT INTO tms.capture (captured_at, capture_id, device_id, image_bytes, path, sha256)
		SELECT now() - n * interval '$4 days' / $1, n + (3::bigint << 32), (SELECT device_id FROM tms.device WHERE code = 'bench-same'),
			$2, n || '.jpg', decode('$3', 'hex') FROM generate_series(1, $1) n;
		ANALYZE tms.capture;
	SQL
}

# Memory of a backend over a scan of $memory_bytes: one object of 250 KB under many names.
bench_memory()
{
	local file=$sandbox/store/objects/same.jpg count budget
	head -c 250000 /dev/urandom >"$file"
	chmod a+r "$file"
	count=$((memory_bytes / 250000))
	insert_same "$count" 250000 "$(sha256sum <"$file" | cut -d' ' -f1)" 1
	sql -c "ALTER SERVER image_center OPTIONS (SET url 'http://127.0.0.1:$store_port/same')"
	for budget in 8 64; do
		sql -c "ALTER SERVER image_center OPTIONS (ADD prefetch_memory '${budget}MB')"
		psql -XAqt <<-SQL | tail -n 1 | while read -r grown; do
			SET jit = off;
			SET tms.max_images = 10000000;
			SELECT count(image) FROM capture_image WHERE path IN ('1.jpg', '2.jpg') \g /dev/null
			SELECT pg_backend_pid() AS pid \gset
			\setenv PID :pid
			\set before \`awk '/VmHWM/ { print \$2 }' /proc/\$PID/status\`
			SELECT 1 / (count(image) = $count)::int FROM capture_image \g /dev/null
			\set after \`awk '/VmHWM/ { print \$2 }' /proc/\$PID/status\`
			SELECT round((:after - :before) / 1024.0, 1);
		SQL
			result "memory: of a scan of $((memory_bytes / 1000000)) MB, prefetch_memory = $budget MB" "$grown" "MB (at most $(awk "BEGIN { print $budget * 1.2 + 0.25 }"))"
		done
		sql -c 'ALTER SERVER image_center OPTIONS (DROP prefetch_memory)'
	done
	sql -c "ALTER SERVER image_center OPTIONS (SET url '$store_url')"
}

# Requests and time of the newest images among 100,000 captures in 10 days.
bench_newest()
{
	local file=$sandbox/store/objects/same.jpg n before
	head -c 250000 /dev/urandom >"$file"
	chmod a+r "$file"
	sql -c 'DROP TABLE tms.capture' -c "SELECT tms.create_capture_table((now() - interval '11 days')::date)" >/dev/null
	insert_same 100000 250000 "$(sha256sum <"$file" | cut -d' ' -f1)" 10
	sql -c "ALTER SERVER image_center OPTIONS (SET url 'http://127.0.0.1:$store_port/same')"
	for n in 1 20 100; do
		before=$(wc -l <"$sandbox/store/access.log")
		timed >"$sandbox/timed" <<-SQL
			SELECT image FROM capture_image ORDER BY captured_at DESC LIMIT $n \g /dev/null
		SQL
		wait_for 5 sh -c "[ \$(wc -l <'$sandbox/store/access.log') -ge $((before + n)) ]"
		result "newest: requests of ORDER BY captured_at DESC LIMIT $n" "$(($(wc -l <"$sandbox/store/access.log") - before))" "$(cat "$sandbox/timed") ms"
	done
	sql -c "ALTER SERVER image_center OPTIONS (SET url '$store_url')"
}
