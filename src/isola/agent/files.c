/* Operations of a worker on paths and on open files. */
#include "entries.h"
#include "operations.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ACCESS_READ 1
#define ACCESS_WRITE 2
#define ACCESS_APPEND 4
#define ACCESS_CREATE 8
#define ACCESS_EXCLUSIVE 16
#define ACCESS_TRUNCATE 32
#define MAX_PIECE (256u << 10)

static int stat_path(struct reader *r, struct buffer *answer) {
    char *path = get_text(r);
    int flags = get_u8(r) ? 0 : O_NOFOLLOW;
    int fd = all_read(r) ? open_path(path, flags) : (errno = EINVAL, -1);
    int error = fd < 0 ? errno : put_entry(answer, fd);
    close_fd(&fd);
    free(path);
    return error;
}

static int flags_of(uint32_t access) {
    int flags = access & ACCESS_WRITE ? (access & ACCESS_READ ? O_RDWR : O_WRONLY) : O_RDONLY;
    return flags | (access & ACCESS_APPEND ? O_APPEND : 0);
}

static int create_file(const char *path, uint32_t access, uint32_t mode, int *made) {
    char *name;
    struct stat status;
    int link = open_path(path, O_NOFOLLOW);
    bool dangling = link >= 0 && fstat(link, &status) == 0;
    close_fd(&link);
    if (dangling)
        return EEXIST;
    int directory = open_parent(path, &name);
    if (directory < 0)
        return errno;
    int error = require_store(directory);
    if (!error) {
        *made = openat(directory, name, flags_of(access) | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        if (*made < 0 || fchown(*made, 0, 0) < 0 || fchmod(*made, mode & 07777) < 0)
            error = errno;
    }
    free(name);
    close(directory);
    return error;
}

static int open_existing(int found, uint32_t access, int *opened) {
    struct stat status;
    if (fstat(found, &status) < 0)
        return errno;
    bool plain = S_ISDIR(status.st_mode) && !(access & (ACCESS_WRITE | ACCESS_CREATE));
    int error = plain ? 0 : require_regular(found);
    if (error)
        return error;
    bool truncate = (access & ACCESS_TRUNCATE) && (access & ACCESS_WRITE);
    *opened = reopen(found, flags_of(access) | (truncate ? O_TRUNC : 0));
    return *opened < 0 ? errno : 0;
}

static int open_file(struct reader *r, struct buffer *answer) {
    uint32_t number;
    int opened = -1, error;
    char *path = get_text(r);
    uint32_t access = get_u32(r), mode = get_u32(r);
    struct handle *handle = all_read(r) ? new_handle(&number) : NULL;
    int found = handle ? open_path(path, 0) : -1;
    if (!handle)
        error = r->bad || r->left ? EINVAL : EMFILE;
    else if (found >= 0 && (access & ACCESS_CREATE) && (access & ACCESS_EXCLUSIVE))
        error = EEXIST;
    else if (found >= 0)
        error = open_existing(found, access, &opened);
    else if (errno != ENOENT || !(access & ACCESS_CREATE))
        error = errno;
    else
        error = create_file(path, access, mode, &opened);
    close_fd(&found);
    free(path);
    if (error) {
        close_fd(&opened);
        return error;
    }
    handle->fd = opened;
    handle->append = access & ACCESS_APPEND;
    put_u32(answer, number);
    return 0;
}

static int read_handle(struct handle *handle, struct reader *r, struct buffer *answer) {
    static uint8_t block[MAX_READ];
    uint64_t offset = get_u64(r);
    uint32_t size = get_u32(r);
    if (!all_read(r) || offset > INT64_MAX)
        return EINVAL;
    ssize_t got = pread(handle->fd, block, size < MAX_READ ? size : MAX_READ, (off_t)offset);
    if (got < 0)
        return errno;
    put_raw(answer, block, (size_t)got);
    return 0;
}

static int write_handle(struct handle *handle, struct reader *r) {
    uint64_t offset = get_u64(r);
    if (r->bad || offset > INT64_MAX || r->left > INT64_MAX - offset)
        return EINVAL;
    bool end = handle->append || handle->name; /* of a draft too */
    while (r->left) {
        ssize_t written = end ? write(handle->fd, r->at, r->left) : pwrite(handle->fd, r->at, r->left, (off_t)offset);
        if (written < 0)
            return errno;
        offset += (uint64_t)written;
        get_bytes(r, (size_t)written);
    }
    return 0;
}

static int list_handle(struct handle *handle, struct reader *r, struct buffer *answer) {
    uint32_t most = get_u32(r), count = 0;
    bool with_entries = get_u8(r);
    struct dirent *entry;
    if (!all_read(r))
        return EINVAL;
    if (!handle->listing && !(handle->listing = fdopendir(handle->fd)))
        return errno;
    put_u32(answer, 0);
    errno = 0;
    while (count < most && answer->size < MAX_PIECE && (entry = readdir(handle->listing))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        size_t before = answer->size;
        put_text(answer, entry->d_name);
        if (with_entries) {
            int fd = openat(handle->fd, entry->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
            if (fd < 0 || put_entry(answer, fd)) /* it has gone */
                answer->size = before;
            close_fd(&fd);
            if (answer->size == before)
                continue;
        }
        count++;
    }
    set_u32(answer, 0, count);
    return count ? 0 : errno;
}

int put_space(struct buffer *answer, int fd) {
    struct statvfs space;
    if (fd < 0 || fstatvfs(fd, &space) < 0)
        return errno;
    uint64_t values[] = {space.f_bsize, space.f_frsize, space.f_blocks, space.f_bfree, space.f_bavail,
                         space.f_files, space.f_ffree, space.f_favail, space.f_flag, space.f_namemax};
    for (size_t i = 0; i < 10; i++)
        put_u64(answer, values[i]);
    return 0;
}

static int work_draft(struct reader *r, struct buffer *answer) {
    uint32_t number;
    char *path = get_text(r);
    bool append = get_u8(r);
    struct handle *handle = all_read(r) ? new_handle(&number) : NULL;
    int error = handle ? open_draft(path, append, handle) : r->bad || r->left ? EINVAL : EMFILE;
    if (!error)
        put_u32(answer, number);
    else if (handle)
        close_handle(handle);
    free(path);
    return error;
}

static int commit(struct handle *handle, struct reader *r) {
    int64_t uid = (int64_t)get_u64(r), gid = (int64_t)get_u64(r), mode = (int64_t)get_u64(r);
    if (!all_read(r) || !handle->name)
        return EINVAL;
    int error = commit_draft(handle, uid, gid, mode);
    close_handle(handle);
    return error;
}

static int work_handle(uint16_t operation, struct reader *r, struct buffer *answer) {
    struct handle *handle = get_handle(r);
    if (!handle)
        return EBADF;
    switch (operation) {
    case WORK_READ:
        return read_handle(handle, r, answer);
    case WORK_WRITE:
        return write_handle(handle, r);
    case WORK_CLOSE:
        close_handle(handle);
        return 0;
    case WORK_HANDLE_STAT:
        return put_entry(answer, handle->fd);
    case WORK_HANDLE_CHANGE:
        return change_file(handle->fd, r);
    case WORK_HANDLE_SYNC:
        return fsync(handle->fd) < 0 ? errno : 0;
    case WORK_HANDLE_SPACE:
        return put_space(answer, handle->fd);
    case WORK_LIST:
        return list_handle(handle, r, answer);
    default:
        return commit(handle, r);
    }
}

int work_files(uint16_t operation, struct reader *r, struct buffer *answer) {
    switch (operation) {
    case WORK_STAT:
        return stat_path(r, answer);
    case WORK_OPEN:
        return open_file(r, answer);
    case WORK_DRAFT:
        return work_draft(r, answer);
    default:
        return work_handle(operation, r, answer);
    }
}
