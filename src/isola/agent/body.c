/* Values in bodies of frames, buffers, and small things that everything uses. */
#include "agent.h"

#include <endian.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void *allocate(size_t size) {
    void *found = calloc(1, size ? size : 1);
    if (!found)
        abort();
    return found;
}

void *reallocate(void *old, size_t size) {
    void *found = realloc(old, size ? size : 1);
    if (!found)
        abort();
    return found;
}

char *copy_text(const char *text) {
    size_t size = strlen(text) + 1;
    return memcpy(allocate(size), text, size);
}

void free_texts(char **texts) {
    if (!texts)
        return;
    for (char **text = texts; *text; text++)
        free(*text);
    free(texts);
}

const uint8_t *get_bytes(struct reader *r, size_t size) {
    static const uint8_t nothing[8];
    if (r->bad || size > r->left) {
        r->bad = true;
        return nothing;
    }
    const uint8_t *found = r->at;
    r->at += size;
    r->left -= size;
    return found;
}

uint8_t get_u8(struct reader *r) {
    return *get_bytes(r, 1);
}

uint16_t get_u16(struct reader *r) {
    uint16_t value;
    memcpy(&value, get_bytes(r, 2), 2);
    return le16toh(value);
}

uint32_t get_u32(struct reader *r) {
    uint32_t value;
    memcpy(&value, get_bytes(r, 4), 4);
    return le32toh(value);
}

uint64_t get_u64(struct reader *r) {
    uint64_t value;
    memcpy(&value, get_bytes(r, 8), 8);
    return le64toh(value);
}

char *get_text(struct reader *r) {
    size_t size = get_u32(r);
    const uint8_t *data = get_bytes(r, size);
    if (r->bad || memchr(data, 0, size)) {
        r->bad = true;
        return copy_text("");
    }
    char *text = allocate(size + 1);
    memcpy(text, data, size);
    return text;
}

size_t get_count(struct reader *r, size_t least) {
    size_t count = get_u32(r);
    if (r->bad || count > r->left / least) {
        r->bad = true;
        return 0;
    }
    return count;
}

char **get_texts(struct reader *r) {
    size_t count = get_count(r, 4);
    char **texts = allocate((count + 1) * sizeof(*texts));
    for (size_t i = 0; i < count; i++)
        texts[i] = get_text(r);
    return texts;
}

bool all_read(struct reader *r) {
    return !r->bad && r->left == 0;
}

static uint8_t *more(struct buffer *b, size_t size) {
    if (b->room - b->size < size) {
        size_t room = b->room ? b->room : 256;
        while (room - b->size < size)
            room *= 2;
        b->data = reallocate(b->data, room);
        b->room = room;
    }
    uint8_t *at = b->data + b->size;
    b->size += size;
    return at;
}

void put_raw(struct buffer *b, const void *data, size_t size) {
    if (size)
        memcpy(more(b, size), data, size);
}

void put_u8(struct buffer *b, uint8_t value) {
    put_raw(b, &value, 1);
}

void put_u16(struct buffer *b, uint16_t value) {
    value = htole16(value);
    put_raw(b, &value, 2);
}

void put_u32(struct buffer *b, uint32_t value) {
    value = htole32(value);
    put_raw(b, &value, 4);
}

void put_u64(struct buffer *b, uint64_t value) {
    value = htole64(value);
    put_raw(b, &value, 8);
}

void put_bytes(struct buffer *b, const void *data, size_t size) {
    put_u32(b, (uint32_t)size);
    put_raw(b, data, size);
}

void put_text(struct buffer *b, const char *text) {
    put_bytes(b, text, strlen(text));
}

void set_u32(struct buffer *b, size_t at, uint32_t value) {
    value = htole32(value);
    memcpy(b->data + at, &value, 4);
}

void drop_front(struct buffer *b, size_t size) {
    memmove(b->data, b->data + size, b->size - size);
    b->size -= size;
    if (b->size == 0 && b->room > MAX_DATA)
        clear(b);
}

void clear(struct buffer *b) {
    free(b->data);
    *b = (struct buffer){0};
}

void set_blocking(int fd, bool blocking) {
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

ssize_t read_file(const char *path, char *data, size_t room) {
    int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t size = 0;
    ssize_t got;
    while (size < room - 1 && (got = read(fd, data + size, room - 1 - size)) > 0)
        size += (size_t)got;
    close(fd);
    data[size] = 0;
    return (ssize_t)size;
}

uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
