/* Paths are resolved by the kernel with the root as `/`. A file is opened for reading or writing only after it turned out
 * to be a regular one, so that no FIFO blocks and no device is opened. */
#include "entries.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

struct handle handles[MAX_HANDLES];

static int resolve(int directory, const char *path, int flags, uint64_t how_to) {
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = how_to};
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof(how));
}

int open_path(const char *path, int flags) {
    static int root = -1;
    if (root < 0)
        root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return resolve(root, *path ? path : ".", O_PATH | flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int follow_link(char *path, size_t room, const char *link) {
    char *slash = strrchr(path, '/');
    size_t above = link[0] != '/' && slash ? (size_t)(slash - path) + 1 : 0, size = strlen(link) + 1;
    if (above + size > room)
        return ENAMETOOLONG;
    memmove(path + above, link, size);
    return 0;
}

int open_parent(const char *path, char **name) {
    char *copy = copy_text(path);
    size_t size = strlen(copy);
    while (size && copy[size - 1] == '/')
        copy[--size] = 0;
    char *slash = strrchr(copy, '/');
    const char *last = slash ? slash + 1 : copy;
    int fd = -1;
    *name = NULL;
    if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
        errno = EINVAL;
    } else {
        *name = copy_text(last);
        if (slash)
            slash[1] = 0;
        fd = open_path(slash ? copy : "/", O_DIRECTORY);
    }
    if (fd < 0) {
        free(*name);
        *name = NULL;
    }
    free(copy);
    return fd;
}

static bool is_pseudo(uint32_t type) {
    static const uint32_t pseudo[] = {0x9fa0, 0x62656572, 0x27e0eb, 0x63677270, 0x1cd1, 0x64626720, 0x74726163,
                                      0x73636673, 0xcafe4a11, 0x62656570, 0x42494e4d, 0x19800202, 0x6165676c,
                                      0xde5e81e4, 0xf97cff8c, 0x65735543};
    for (size_t i = 0; i < sizeof(pseudo) / sizeof(*pseudo); i++)
        if (pseudo[i] == type)
            return true;
    return false;
}

int require_store(int fd) {
    struct statfs system;
    if (fstatfs(fd, &system) < 0)
        return errno;
    return is_pseudo((uint32_t)system.f_type) ? ERROR_PSEUDO : 0;
}

int require_regular(int fd) {
    struct stat status;
    if (fstat(fd, &status) < 0)
        return errno;
    if (S_ISDIR(status.st_mode))
        return EISDIR;
    return S_ISREG(status.st_mode) ? require_store(fd) : ERROR_NOT_REGULAR;
}

/* Through the agent's own /proc, for that of the guest may be missing or something else. */
int reopen(int fd, int flags) {
    char path[48];
    snprintf(path, sizeof(path), "self/fd/%d", fd);
    return openat(proc_fd, path, flags | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

int put_entry(struct buffer *b, int fd) {
    struct stat status;
    char target[4097] = "";
    ssize_t size = 0;
    if (fstat(fd, &status) < 0)
        return errno;
    if (S_ISLNK(status.st_mode) && (size = readlinkat(fd, "", target, sizeof(target) - 1)) < 0)
        size = 0;
    put_u32(b, status.st_mode);
    put_u32(b, status.st_uid);
    put_u32(b, status.st_gid);
    put_u64(b, (uint64_t)status.st_size);
    put_u64(b, (uint64_t)status.st_mtim.tv_sec);
    put_u64(b, (uint64_t)status.st_atim.tv_sec);
    put_u32(b, (uint32_t)status.st_nlink);
    put_bytes(b, target, (size_t)size);
    return 0;
}

struct handle *new_handle(uint32_t *number) {
    for (uint32_t i = 0; i < MAX_HANDLES; i++)
        if (!handles[i].name && !handles[i].listing && handles[i].fd <= 0) {
            handles[i] = (struct handle){.fd = -1, .directory = -1, .target = -1};
            *number = i;
            return &handles[i];
        }
    return NULL;
}

struct handle *get_handle(struct reader *r) {
    uint32_t number = get_u32(r);
    if (r->bad || number >= MAX_HANDLES || handles[number].fd <= 0)
        return NULL;
    return &handles[number];
}

void close_handle(struct handle *handle) {
    if (handle->temporary)
        unlinkat(handle->directory, handle->temporary_name, 0);
    if (handle->listing) /* owns the descriptor */
        closedir(handle->listing);
    else
        close_fd(&handle->fd);
    close_fd(&handle->directory);
    close_fd(&handle->target);
    free(handle->name);
    *handle = (struct handle){.fd = -1, .directory = -1, .target = -1};
}
