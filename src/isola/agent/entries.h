/* Paths, properties and open files of a worker. */
#ifndef ISOLA_ENTRIES_H
#define ISOLA_ENTRIES_H

#include "agent.h"

#include <sys/stat.h>

struct handle {
    int fd;
    int directory; /* of a draft: where it will have its name */
    char *name;
    bool append, in_place, temporary;
    int target; /* of a draft: the file that it replaces, -1: there is none */
    char temporary_name[48];
    void *listing;
};

#define MAX_HANDLES 256
extern struct handle handles[MAX_HANDLES];

int open_path(const char *path, int flags);                         /* -1 and errno */
int open_parent(const char *path, char **name);                     /* the directory; *name points into path */
int require_regular(int fd);                                        /* an error code, 0: it is one and can be used */
int require_store(int fd);
int reopen(int fd, int flags);
int put_entry(struct buffer *b, int fd);
struct handle *new_handle(uint32_t *number);
struct handle *get_handle(struct reader *r);
void close_handle(struct handle *handle);
int open_draft(const char *path, bool append, struct handle *draft);
int commit_draft(struct handle *draft, int64_t uid, int64_t gid, int64_t mode);

#endif
