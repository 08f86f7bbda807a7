/*
 * An area and its upper edge; the viewBox is stretched to whatever room the page has.
 */
#include "clock.h"
#include "status_chart.h"

#define WIDTH  480.0
#define HEIGHT 60.0
#define DAY    (86400 * CLOCK_SECOND)

static double across(int64_t at, int64_t end)
{
	double x = WIDTH - WIDTH * (double) (end - at) / (double) DAY;

	return x < 0 ? 0 : x;
}

static double down(double value, double largest)
{
	return largest > 0 ? HEIGHT - (HEIGHT - 2) * value / largest : HEIGHT;
}

/* One unbroken run of known points; returns the point behind it. */
static int draw_run(FILE *out, const StatusPoint *points, int from, int count, double largest)
{
	int64_t end = points[count - 1].at;
	int to = from;

	fprintf(out, "<path class=\"area\" d=\"M%.1f,%.0f", across(points[from].at, end), HEIGHT);
	for (; to < count && points[to].value >= 0; to++)
		fprintf(out, " L%.1f,%.1f", across(points[to].at, end), down(points[to].value, largest));
	fprintf(out, " L%.1f,%.0f Z\"/><path class=\"edge\" d=\"", across(points[to - 1].at, end), HEIGHT);
	for (int i = from; i < to; i++)
		fprintf(out, "%c%.1f,%.1f ", i == from ? 'M' : 'L', across(points[i].at, end), down(points[i].value, largest));
	fputs("\"/>", out);
	return to;
}

void status_chart(FILE *out, const char *title, const char *top, const StatusPoint *points, int count, double largest)
{
	fprintf(
		out,
		"<figure><figcaption>%s<span>%s</span></figcaption><svg viewBox=\"0 0 %.0f %.0f\" preserveAspectRatio=\"none\" "
		"role=\"img\" aria-label=\"%s of the last 24 hours, at most %s\">",
		title, top, WIDTH, HEIGHT, title, top);
	for (int i = 0; i < count;)
		if (points[i].value < 0)
			i++;
		else
			i = draw_run(out, points, i, count, largest);
	fputs("</svg><div class=\"axis\"><span>24 h ago</span><span>12 h</span><span>now</span></div></figure>\n", out);
}
