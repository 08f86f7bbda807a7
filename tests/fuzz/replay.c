/*
 * Runs a fuzzer's target once for each file of the folders given, without libFuzzer: what was found before stays mended.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *folder, const char *name)
{
	char path[4096];
	uint8_t *data = NULL;
	FILE *file;
	long size;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	file = fopen(path, "rb");
	if (!file || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
		return 1;
	rewind(file);
	data = malloc((size_t) size); /* just as long, so that AddressSanitizer sees what is read behind it */
	if (size > 0 && fread(data, (size_t) size, 1, file) != 1)
		return 1;
	fclose(file);
	LLVMFuzzerTestOneInput(data, (size_t) size);
	free(data);
	return 0;
}

int main(int argc, char **argv)
{
	int count = 0;

	for (int i = 1; i < argc; i++)
	{
		DIR *folder = opendir(argv[i]);
		struct dirent *entry;

		while (folder && (entry = readdir(folder)))
			if (entry->d_name[0] != '.')
			{
				if (run_file(argv[i], entry->d_name) != 0)
					return 1;
				count++;
			}
		if (folder)
			closedir(folder);
	}
	printf("%d inputs\n", count);
	return count == 0;
}
