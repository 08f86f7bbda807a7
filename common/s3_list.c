/*
 * Lists of objects of an S3 store; see s3_list.h.
 */
#include "s3_list.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool tms_s3_bucket(const char *base_url, char bucket_url[TMS_S3_URL_SIZE], char prefix[TMS_S3_KEY_SIZE])
{
	const char *host = strstr(base_url, "://");
	const char *bucket = host != NULL ? strchr(host + 3, '/') : NULL;
	size_t bucket_len = bucket != NULL ? strcspn(bucket + 1, "/") : 0;
	const char *folder;
	int len;

	if (bucket_len == 0)
		return false;
	folder = bucket + 1 + bucket_len;
	len = snprintf(bucket_url, TMS_S3_URL_SIZE, "%.*s", (int) (folder - base_url), base_url);
	if (len < 0 || len >= TMS_S3_URL_SIZE)
		return false;
	folder += strspn(folder, "/");
	len = snprintf(prefix, TMS_S3_KEY_SIZE, "%s%s", folder, *folder != '\0' ? "/" : "");
	return len >= 0 && len < TMS_S3_KEY_SIZE && strchr(prefix, '%') == NULL;
}

/* The next element of that name, what is inside it, from list->at on; NULL: there is none. */
static const char *next_element(const TmsS3List *list, const char *name, size_t *len)
{
	char tag[32];
	const char *from = list->body + list->at;
	size_t left = list->len - list->at;
	const char *start;
	const char *end;

	snprintf(tag, sizeof(tag), "<%s>", name);
	start = memmem(from, left, tag, strlen(tag));
	if (start == NULL)
		return NULL;
	start += strlen(tag);
	left = list->len - (size_t) (start - list->body);
	snprintf(tag, sizeof(tag), "</%s>", name);
	end = memmem(start, left, tag, strlen(tag));
	if (end == NULL)
		return NULL;
	*len = (size_t) (end - start);
	return start;
}

/* The same, from what was found before where that is still ahead. */
static const char *look_ahead(const TmsS3List *list, const char *name, TmsS3Found *found, size_t *len)
{
	bool is_behind = found->inside != NULL && found->inside <= list->body + list->at;

	if (!found->sought || is_behind)
		found->inside = next_element(list, name, &found->len);
	found->sought = true;
	*len = found->len;
	return found->inside;
}

bool tms_s3_list_next(TmsS3List *list, TmsS3Entry *entry)
{
	size_t object_len;
	size_t folder_len;
	const char *object = look_ahead(list, "Contents", &list->object, &object_len);
	const char *folder = look_ahead(list, "CommonPrefixes", &list->folder, &folder_len);
	char size[24];
	char *end;

	memset(entry, 0, sizeof(*entry));
	entry->is_folder = folder != NULL && (object == NULL || folder < object);
	if (entry->is_folder)
	{
		list->at = (size_t) (folder + folder_len - list->body);
		return tms_s3_element(folder, folder_len, "Prefix", entry->key, sizeof(entry->key));
	}
	if (object == NULL)
		return false;
	list->at = (size_t) (object + object_len - list->body);
	if (!tms_s3_element(object, object_len, "Key", entry->key, sizeof(entry->key)) ||
		!tms_s3_element(object, object_len, "Size", size, sizeof(size)))
		return false;
	errno = 0;
	entry->bytes = strtoll(size, &end, 10);
	return errno == 0 && end != size && *end == '\0' && entry->bytes >= 0;
}

bool tms_s3_list_ended(const TmsS3List *list)
{
	return list->object.inside == NULL && list->folder.inside == NULL;
}

bool tms_s3_list_valid(const char *body, size_t len)
{
	return memmem(body, len, "<ListBucketResult", strlen("<ListBucketResult")) != NULL &&
		   memmem(body, len, "</ListBucketResult>", strlen("</ListBucketResult>")) != NULL;
}

bool tms_s3_list_token(const char *body, size_t len, char token[TMS_S3_TOKEN_SIZE])
{
	char truncated[8] = "";

	return tms_s3_element(body, len, "IsTruncated", truncated, sizeof(truncated)) && strcmp(truncated, "true") == 0 &&
		   tms_s3_element(body, len, "NextContinuationToken", token, TMS_S3_TOKEN_SIZE);
}
