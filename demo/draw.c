/*
 * Draws traffic photographs for the demo: draw FOLDER COUNT writes 0001.jpg ... (1280 x 720, each different: time of day,
 * road, car, plate, grain) and labels.tsv with the plates.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#define WIDTH  1280
#define HEIGHT 720

typedef struct Color
{
	uint8_t r, g, b;
} Color;

static Color canvas[HEIGHT][WIDTH];
static uint32_t seed;

/* A pseudo-random number below n, the same for the same photograph. */
static uint32_t below(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static void fill(int x, int y, int width, int height, Color color)
{
	for (int row = y < 0 ? 0 : y; row < y + height && row < HEIGHT; row++)
		for (int column = x < 0 ? 0 : x; column < x + width && column < WIDTH; column++)
			canvas[row][column] = color;
}

static void disc(int x, int y, int radius, Color color)
{
	for (int row = -radius; row <= radius; row++)
		for (int column = -radius; column <= radius; column++)
			if (row * row + column * column <= radius * radius)
				fill(x + column, y + row, 1, 1, color);
}

/* 5 x 7 glyphs of 0-9 and A-Z, one byte a row. */
static const uint8_t glyphs[36][7] = {
	{14, 17, 19, 21, 25, 17, 14}, {4, 12, 4, 4, 4, 4, 14},      {14, 17, 1, 2, 4, 8, 31},
	{31, 2, 4, 2, 1, 17, 14},     {2, 6, 10, 18, 31, 2, 2},     {31, 16, 30, 1, 1, 17, 14},
	{6, 8, 16, 30, 17, 17, 14},   {31, 1, 2, 4, 8, 8, 8},       {14, 17, 17, 14, 17, 17, 14},
	{14, 17, 17, 15, 1, 2, 12},   {14, 17, 17, 31, 17, 17, 17}, {30, 17, 17, 30, 17, 17, 30},
	{14, 17, 16, 16, 16, 17, 14}, {30, 17, 17, 17, 17, 17, 30}, {31, 16, 16, 30, 16, 16, 31},
	{31, 16, 16, 30, 16, 16, 16}, {14, 17, 16, 23, 17, 17, 15}, {17, 17, 17, 31, 17, 17, 17},
	{14, 4, 4, 4, 4, 4, 14},      {7, 2, 2, 2, 2, 18, 12},      {17, 18, 20, 24, 20, 18, 17},
	{16, 16, 16, 16, 16, 16, 31}, {17, 27, 21, 21, 17, 17, 17}, {17, 25, 21, 19, 17, 17, 17},
	{14, 17, 17, 17, 17, 17, 14}, {30, 17, 17, 30, 16, 16, 16}, {14, 17, 17, 17, 21, 18, 13},
	{30, 17, 17, 30, 20, 18, 17}, {15, 16, 16, 14, 1, 1, 30},   {31, 4, 4, 4, 4, 4, 4},
	{17, 17, 17, 17, 17, 17, 14}, {17, 17, 17, 17, 17, 10, 4},  {17, 17, 17, 21, 21, 27, 17},
	{17, 17, 10, 4, 10, 17, 17},  {17, 17, 10, 4, 4, 4, 4},     {31, 1, 2, 4, 8, 16, 31}};

static void text(int x, int y, int scale, const char *word, Color color)
{
	for (; *word; word++, x += 6 * scale)
	{
		int index = *word >= 'A' ? *word - 'A' + 10 : *word - '0';

		for (int row = 0; row < 7; row++)
			for (int bit = 0; bit < 5; bit++)
				if (glyphs[index][row] >> (4 - bit) & 1)
					fill(x + bit * scale, y + row * scale, scale, scale, color);
	}
}

static Color shade(Color color, int percent)
{
	return (Color){(uint8_t) (color.r * percent / 100), (uint8_t) (color.g * percent / 100),
				   (uint8_t) (color.b * percent / 100)};
}

static void draw_road(int light)
{
	for (int y = 0; y < HEIGHT; y++)
		fill(0, y, WIDTH, 1,
			 y < 260 ? shade((Color){(uint8_t) (110 + y / 3), (uint8_t) (150 + y / 4), 225}, light)
					 : shade((Color){78, 96, 62}, light));
	for (int y = 260; y < HEIGHT; y++)
	{
		int half = 90 + (y - 260) * 130 / 100;

		fill(WIDTH / 2 - half, y, 2 * half, 1, shade((Color){88, 88, 92}, light));
		for (int lane = -1; lane <= 1; lane += 2)
			if ((y / 34) % 2)
				fill(WIDTH / 2 + lane * half / 3 - 3, y, 6, 1, shade((Color){235, 235, 225}, light));
	}
	for (int i = 0; i < 9; i++)
		fill(40 + i * 140 + (int) below(60), 170 + (int) below(40), 60 + (int) below(40), 90,
			 shade((Color){(uint8_t) (90 + below(90)), (uint8_t) (90 + below(60)), 100}, light));
}

static void draw_car(int light, const char *plate)
{
	Color body = {(uint8_t) (50 + below(200)), (uint8_t) (50 + below(200)), (uint8_t) (50 + below(200))};
	int x = 300 + (int) below(340), y = 340 + (int) below(60), width = 330;

	fill(x + 40, y, width - 80, 110, shade(body, light * 9 / 10));
	fill(x + 60, y + 16, width - 120, 80, shade((Color){40, 60, 80}, light));
	fill(x, y + 105, width, 120, shade(body, light));
	disc(x + 45, y + 230, 34, (Color){22, 22, 24});
	disc(x + width - 45, y + 230, 34, (Color){22, 22, 24});
	disc(x + 34, y + 140, 16, (Color){250, 245, 205});
	disc(x + width - 34, y + 140, 16, (Color){250, 245, 205});
	fill(x + width / 2 - 76, y + 164, 152, 40, (Color){28, 60, 170});
	text(x + width / 2 - 70, y + 170, 4, plate, (Color){250, 250, 250});
}

static int save(const char *file)
{
	struct jpeg_compress_struct jpeg;
	struct jpeg_error_mgr errors;
	FILE *out = fopen(file, "wb");

	if (!out)
	{
		fprintf(stderr, "draw: %s: %s\n", file, strerror(errno));
		return 1;
	}
	jpeg.err = jpeg_std_error(&errors);
	jpeg_create_compress(&jpeg);
	jpeg_stdio_dest(&jpeg, out);
	jpeg.image_width = WIDTH;
	jpeg.image_height = HEIGHT;
	jpeg.input_components = 3;
	jpeg.in_color_space = JCS_RGB;
	jpeg_set_defaults(&jpeg);
	jpeg_set_quality(&jpeg, 88, TRUE);
	jpeg_start_compress(&jpeg, TRUE);
	while (jpeg.next_scanline < HEIGHT)
	{
		JSAMPROW row = (JSAMPROW) canvas[jpeg.next_scanline];

		jpeg_write_scanlines(&jpeg, &row, 1);
	}
	jpeg_finish_compress(&jpeg);
	jpeg_destroy_compress(&jpeg);
	return fclose(out) != 0;
}

static int photograph(const char *folder, int number, FILE *labels)
{
	static const char letters[] = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789";
	char plate[7], file[4096];
	int light;

	seed = 2026u + (uint32_t) number * 7919u;
	light = 55 + (int) below(50);
	if (light > 100)
		light = 100;
	for (int i = 0; i < 6; i++)
		plate[i] = letters[below(i < 2 ? 24 : sizeof(letters) - 1)];
	plate[6] = '\0';
	draw_road(light);
	draw_car(light, plate);
	for (int y = 0; y < HEIGHT; y++)
		for (int x = 0; x < WIDTH; x++)
		{
			int grain = (int) below(13) - 6;
			Color *at = &canvas[y][x];

			at->r = (uint8_t) (at->r + grain < 0 ? 0 : at->r + grain > 255 ? 255 : at->r + grain);
			at->g = (uint8_t) (at->g + grain < 0 ? 0 : at->g + grain > 255 ? 255 : at->g + grain);
			at->b = (uint8_t) (at->b + grain < 0 ? 0 : at->b + grain > 255 ? 255 : at->b + grain);
		}
	snprintf(file, sizeof(file), "%s/%04d.jpg", folder, number);
	fprintf(labels, "%04d.jpg\t0\t0\t0\t0\t%s\n", number, plate);
	return save(file);
}

int main(int argc, char **argv)
{
	char file[4096];
	FILE *labels;
	int failed = 0;

	if (argc != 3 || atoi(argv[2]) < 1)
	{
		fprintf(stderr, "usage: draw FOLDER COUNT\n");
		return 2;
	}
	snprintf(file, sizeof(file), "%s/labels.tsv", argv[1]);
	labels = fopen(file, "w");
	if (!labels)
	{
		fprintf(stderr, "draw: %s: %s\n", file, strerror(errno));
		return 1;
	}
	fprintf(labels, "file\tplate_x\tplate_y\tplate_w\tplate_h\tplate\n");
	for (int number = 1; number <= atoi(argv[2]) && !failed; number++)
		failed = photograph(argv[1], number, labels);
	return fclose(labels) != 0 || failed;
}
