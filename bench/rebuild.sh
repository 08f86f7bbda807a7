# A path center made again from the manifests of an image center, against binary COPY of the same rows into the same table; bench/run
# sources it, with its functions and the sandbox.

rebuild_devices=20
rebuild_hours=5
rebuild_captures=1000 # an hour and device: 100,000 in all

# The manifests, as agents would have written them, straight into the store's folder.
rebuild_manifests()
{
	local code hour folder
	for code in $(seq -f 'bench-rebuild-%g' $rebuild_devices); do
		for hour in $(seq $rebuild_hours); do
			folder=$sandbox/store/objects/$code/manifest/$(date -ud "$hour hours ago" +%Y/%m/%d/%H)
			$as_user mkdir -p "$folder"
			echo "COPY (SELECT json_build_object('ledger', ledger, 'seq', seq, 'path', to_char(at, 'YYYY/MM/DD/HH24/') || seq || '.jpg',
					'sha256', encode(sha256((ledger || ':' || seq)::bytea), 'hex'), 'bytes', 250000 + seq, 'captured_at', to_char(at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
					'plate', upper(substr(md5(seq::text), 1, 7)), 'plate_class', '02', 'plate_color', 'blue', 'direction', 'north', 'lane', seq % 4, 'speed_kmh', seq % 120)
				FROM (SELECT md5('$code')::uuid AS ledger, ($rebuild_hours - $hour) * $rebuild_captures + n AS seq,
					date_trunc('hour', now() AT TIME ZONE 'UTC') - $hour * interval '1 hour' + n * interval '3 seconds' AS at
					FROM generate_series(1, $rebuild_captures) AS n) AS c) TO '$folder/$(printf %s "$code" | md5sum | sed -E 's/^(.{8})(.{4})(.{4})(.{4})(.{12}).*/\1-\2-\3-\4-\5/')-bench.jsonl';"
		done
	done | sql
}

bench_rebuild()
{
	local total=$((rebuild_devices * rebuild_hours * rebuild_captures)) begin round
	rm -f "$sandbox/rebuild.s" "$sandbox/copy.s"
	for round in $(seq $rebuild_devices); do device "bench-rebuild-$round" >/dev/null; done
	rebuild_manifests
	for round in 1 2 3; do
		sql -c 'TRUNCATE tms.capture, tms.ledger, tms.ledger_day, tms.declared_gap, tms.imported_manifest' -c CHECKPOINT
		begin=$(date +%s%N)
		sql -c "SET client_min_messages = warning" -c "CALL tms.import_image_center('image_center', 'bench-rebuild-')"
		awk -v d=$(($(date +%s%N) - begin)) 'BEGIN { print d / 1e9 }' >>"$sandbox/rebuild.s"
		[ "$(sql -c 'SELECT count(*) FROM tms.capture')" = $total ] || { echo 'captures are missing' >&2; return 1; }
		sql -c "COPY (SELECT * FROM tms.capture) TO '$sandbox/rebuild.copy' (FORMAT binary)" -c 'TRUNCATE tms.capture' -c CHECKPOINT
		begin=$(date +%s%N)
		sql -c "COPY tms.capture FROM '$sandbox/rebuild.copy' (FORMAT binary)"
		awk -v d=$(($(date +%s%N) - begin)) 'BEGIN { print d / 1e9 }' >>"$sandbox/copy.s"
	done
	result "rebuild: $total captures from $((rebuild_devices * rebuild_hours)) manifests" "$(median <"$sandbox/rebuild.s")" s
	result 'rebuild: its time against binary COPY of the rows' "$(paired rebuild copy)"
	sql -c 'TRUNCATE tms.capture, tms.ledger, tms.ledger_day, tms.declared_gap, tms.imported_manifest'
}
