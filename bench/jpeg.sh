# Sourced by bench/run: thumbnails in SQL against programs that make the same ones, one core each.

# What the peers need; not asked for by tests/deps.
jpeg_peers()
{
	command -v vipsthumbnail djpeg cjpeg compare >/dev/null && return
	echo 'jpeg: skipped, it needs libvips-tools, libjpeg-turbo-progs and imagemagick'
	return 1
}

# The scale of djpeg that is nearest to 320 pixels without being less.
djpeg_scale()
{
	djpeg -scale 1/8 "$1" | head -c 20 | awk 'NR == 2 { side = $1 > $2 ? $1 : $2; n = int((320 + side - 1) / side); print (n > 8 ? 8 : n); exit }'
}

# seconds COMMAND...: how long it takes
seconds() { local began=$EPOCHREALTIME; "$@" >/dev/null; awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }'; }

jpeg_pipes()
{
	local file scale
	while read -r scale file; do djpeg -scale "$scale/8" "$file" | cjpeg -quality 75 -optimize >"$sandbox/thumbs/pipe/${file##*/}"; done <"$sandbox/scales"
}
jpeg_vips() { taskset -c 0 env VIPS_CONCURRENCY=1 vipsthumbnail --size '320x320>' -o "$sandbox/thumbs/vips/%s.jpg[Q=75,strip,optimize_coding]" "$@"; }

bench_jpeg()
{
	jpeg_peers || return 0
	photographs
	local files=("$photos"/*.jpg) file round n=0
	mkdir -p "$sandbox"/thumbs/{pipe,vips,tms}
	chmod 777 "$sandbox/thumbs/tms"
	for file in "${files[@]}"; do echo "$(djpeg_scale "$file") $file"; done >"$sandbox/scales"
	sql -c 'CREATE TABLE bench_photo (name text, image bytea)' -c 'ALTER TABLE bench_photo ALTER image SET STORAGE EXTERNAL' >/dev/null
	for file in "${files[@]}"; do
		printf '%s\t\\\\x%s\n' "${file##*/}" "$(od -An -v -tx1 "$file" | tr -d ' \n')"
	done | sql -c '\copy bench_photo FROM STDIN'
	rm -f "$sandbox"/{thumbnail,vips,pipe}.s
	for round in 1 2 3 4 5; do
		timed <<<'SET max_parallel_workers_per_gather = 0; SELECT sum(length(tms.thumbnail(image))) FROM bench_photo \g /dev/null' |
			awk 'END { print $1 / 1000 }' >>"$sandbox/thumbnail.s"
		# The start of vips, that is a run over one small image, is taken out.
		echo "$(seconds jpeg_vips "${files[@]}") $(seconds jpeg_vips "$sandbox/thumbs/vips/$(basename "${files[0]}")")" | awk '{ print $1 - $2 }' >>"$sandbox/vips.s"
		seconds jpeg_pipes >>"$sandbox/pipe.s"
	done
	n=${#files[@]}
	result 'jpeg: thumbnails per second and core' "$(median <"$sandbox/thumbnail.s" | awk -v n="$n" '{ printf "%.0f", n / $1 }')"
	result 'jpeg: of vipsthumbnail, its start taken out' "$(paired vips thumbnail)" '(at least 0.9)'
	result 'jpeg: of a loop of djpeg -scale | cjpeg' "$(paired pipe thumbnail)" '(at least 1.0)'
	# Quality: every eighth against a full decode and ImageMagick's Lanczos.
	sql -c "SELECT name, encode(tms.thumbnail(image), 'hex') FROM bench_photo" | while IFS='|' read -r file bytes; do
		printf '%b' "$(sed 's/../\\x&/g' <<<"$bytes")" >"$sandbox/thumbs/tms/$file"
	done
	for file in $(printf '%s\n' "${files[@]}" | awk 'NR % 8 == 1'); do
		convert "$file" -auto-orient -filter Lanczos -resize '320x320>' "$sandbox/reference.png"
		for round in tms vips; do
			echo "$round $(compare -metric PSNR "$sandbox/reference.png" "$sandbox/thumbs/$round/${file##*/}" null: 2>&1 || true)"
		done
	done >"$sandbox/psnr"
	for round in tms vips; do
		result "jpeg: PSNR of $round at quality 75" "$(awk -v p="$round" '$1 == p { sum += $2; n++ } END { printf "%.1f", sum / n }' "$sandbox/psnr")" dB
	done
	sql -c 'DROP TABLE bench_photo' >/dev/null
}
