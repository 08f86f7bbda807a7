/*
 * Daily partitions of tms.capture: one a UTC day, made without stopping readers or writers.
 */
#ifndef TMS_PARTITION_H
#define TMS_PARTITION_H

#include "postgres.h"

#include "utils/date.h"
#include "utils/timestamp.h"

/* tms.retention: how long captures are kept, in minutes; 0: for ever. */
extern int tms_retention;

/* Defines the setting; _PG_init calls it. */
extern void tms_partition_init(void);

/* The UTC day a moment is in, and a day's first moment. Finite values only. */
extern DateADT tms_day_of(TimestampTz moment);
extern TimestampTz tms_day_start(DateADT day);

/* Has tms.capture a partition for this day? Costs a binary search; takes AccessShareLock on tms.capture. */
extern bool tms_partition_has_day(DateADT day);

/*
 * Makes the day's partition when tms.capture has none for it; returns whether it did. As the table's owner, and with no lock
 * that readers or writers of tms.capture would wait for. Call it before the statement opens tms.capture. Error 42P01 when
 * there is no tms.capture.
 */
extern bool tms_partition_ensure_day(DateADT day);

#endif
