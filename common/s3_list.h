/*
 * Lists of objects of an S3 store (ListObjectsV2): where to ask for them, and what the XML of an answer says. As in s3.h the
 * XML is scanned for a few elements and never parsed.
 */
#ifndef TMS_S3_LIST_H
#define TMS_S3_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3.h"

#define TMS_S3_KEY_SIZE   1025 /* with a NUL; a key has at most 1024 bytes */
#define TMS_S3_TOKEN_SIZE 2048

/*
 * Takes a base URL ("https://host/bucket" or "https://host/bucket/folder") apart: the bucket's URL, and the beginning that
 * all keys below the base URL have in the bucket ("" or "folder/"). False when it names no bucket or does not fit.
 */
extern bool tms_s3_bucket(const char *base_url, char bucket_url[TMS_S3_URL_SIZE], char prefix[TMS_S3_KEY_SIZE]);

typedef struct TmsS3Entry
{
	char key[TMS_S3_KEY_SIZE]; /* what is not printable ASCII became "?" */
	bool is_folder; /* a common prefix; the key ends in the delimiter */
	int64_t bytes;
} TmsS3Entry;

/* An element that was found ahead, so that nothing is searched through twice. */
typedef struct TmsS3Found
{
	const char *inside; /* NULL: there is no more of them */
	size_t len;
	bool sought;
} TmsS3Found;

/* A place in an answer of len bytes, which may hold anything. */
typedef struct TmsS3List
{
	const char *body;
	size_t len;
	size_t at;
	TmsS3Found object;
	TmsS3Found folder;
} TmsS3List;

/* Takes the next entry of an answer, begun with all but body and len zero; false: there is no more that can be read. */
extern bool tms_s3_list_next(TmsS3List *list, TmsS3Entry *entry);

/* After that: were all of them taken? If not, what comes next is no entry. */
extern bool tms_s3_list_ended(const TmsS3List *list);

/* Is this the answer to a request for a list, and a whole one? */
extern bool tms_s3_list_valid(const char *body, size_t len);

/* The token for the next page; false when this was the last one. A cut-off answer has none either: ask tms_s3_list_valid. */
extern bool tms_s3_list_token(const char *body, size_t len, char token[TMS_S3_TOKEN_SIZE]);

#endif
