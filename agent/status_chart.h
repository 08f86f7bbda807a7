/*
 * Curves of a day as inline SVG.
 */
#ifndef AGENT_STATUS_CHART_H
#define AGENT_STATUS_CHART_H

#include <stdint.h>
#include <stdio.h>

typedef struct StatusPoint
{
	int64_t at; /* microseconds, any clock */
	double value; /* < 0: not known, leaves a gap */
} StatusPoint;

/*
 * Draws the last 24 hours up to the last point, with `largest` (at least the largest value) at the top. The texts are the
 * caller's, plain ASCII without markup.
 */
extern void status_chart(FILE *out, const char *title, const char *top, const StatusPoint *points, int count,
						 double largest);

#endif
