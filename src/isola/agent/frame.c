/* Frames: takes input apart, and collects what is sent. */
#include "agent.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MAGIC "ISOLAGNT"
#define MAGIC_SIZE 8
#define EPOCH_SIZE 16
#define HELLO_SIZE (MAGIC_SIZE + 8 + EPOCH_SIZE)

struct buffer outgoing;
static struct buffer incoming;
static bool greeted;
static uint32_t tag;

bool connected(void) {
    return greeted;
}

void disconnected(void) {
    greeted = false;
    clear(&incoming);
    clear(&outgoing);
    close_all_jobs();
}

void send_frame(uint32_t stream, enum frame_type type, uint8_t channel, const void *payload, size_t size) {
    if (!greeted)
        return;
    put_u32(&outgoing, (uint32_t)size);
    put_u32(&outgoing, stream);
    put_u32(&outgoing, tag);
    put_u8(&outgoing, (uint8_t)type);
    put_u8(&outgoing, channel);
    put_u16(&outgoing, 0);
    put_raw(&outgoing, payload, size);
}

void send_error(uint32_t stream, int error, const char *what) {
    struct buffer body = {0};
    put_u32(&body, (uint32_t)error);
    put_text(&body, what);
    send_frame(stream, FRAME_ERROR, 0, body.data, body.size);
    clear(&body);
}

static void greet(const uint8_t *payload) {
    struct reader r = {payload + MAGIC_SIZE, HELLO_SIZE - MAGIC_SIZE, false};
    uint32_t lowest = get_u32(&r), highest = get_u32(&r);
    const uint8_t *epoch = get_bytes(&r, EPOCH_SIZE);
    struct buffer body = {0};
    close_all_jobs();
    clear(&outgoing); /* it belongs to the connection before */
    do {
        if (getrandom(&tag, sizeof(tag), 0) != sizeof(tag))
            abort();
    } while (tag == 0);
    greeted = true;
    put_raw(&body, MAGIC, MAGIC_SIZE);
    put_raw(&body, epoch, EPOCH_SIZE);
    put_u32(&body, lowest <= PROTOCOL_VERSION && highest >= PROTOCOL_VERSION ? PROTOCOL_VERSION : 0);
    put_u8(&body, (uint8_t)first_state);
    put_u32(&body, first_status);
    put_text(&body, AGENT_VERSION);
    send_frame(0, FRAME_HELLO, 0, body.data, body.size);
    clear(&body);
}

static bool is_hello(const uint8_t *data) {
    static const uint8_t header[HEADER_SIZE] = {HELLO_SIZE};
    return memcmp(data, header, HEADER_SIZE) == 0 && memcmp(data + HEADER_SIZE, MAGIC, MAGIC_SIZE) == 0;
}

/* Discards bytes before a greeting. Whether there is one. */
static bool find_hello(size_t *at) {
    while (incoming.size - *at >= HEADER_SIZE + HELLO_SIZE) {
        if (is_hello(incoming.data + *at))
            return true;
        (*at)++;
    }
    return false;
}

static void handle_frame(uint32_t stream, uint8_t type, uint8_t channel, const uint8_t *payload, size_t size) {
    struct reader r = {payload, size, false};
    if (type == FRAME_REQUEST) {
        handle_request(stream, payload, size);
        return;
    }
    struct job *job = find_job(stream);
    if (!job || job->closing)
        return;
    if (type == FRAME_DATA && channel == 0) {
        job_data(job, payload, size);
    } else if (type == FRAME_END && channel == 0) {
        job_end_input(job);
    } else if (type == FRAME_CREDIT) {
        job_credit(job, channel, get_u32(&r));
    } else if (type == FRAME_SIGNAL) {
        job_signal(job, (int)get_u32(&r));
    } else if (type == FRAME_RESIZE) {
        uint16_t columns = get_u16(&r);
        job_resize(job, columns, get_u16(&r));
    } else if (type == FRAME_CLOSE) {
        job_close(job);
    }
}

/* Whether a whole frame, or a part that is to be discarded, was taken from the input at *at. */
static bool take_frame(size_t *at) {
    if (!greeted && !find_hello(at))
        return false;
    if (incoming.size - *at < HEADER_SIZE)
        return false;
    struct reader r = {incoming.data + *at, HEADER_SIZE, false};
    uint32_t size = get_u32(&r), stream = get_u32(&r), given = get_u32(&r);
    uint8_t type = get_u8(&r), channel = get_u8(&r);
    bool hello = incoming.size - *at >= HEADER_SIZE + HELLO_SIZE && is_hello(incoming.data + *at);
    if (!hello && given == 0 && type == FRAME_HELLO && size == HELLO_SIZE && incoming.size - *at < HEADER_SIZE + HELLO_SIZE)
        return false;
    if (hello) {
        greet(incoming.data + *at + HEADER_SIZE);
    } else if (given != tag || size > MAX_REQUEST || get_u16(&r) != 0 || channel > 2) {
        close_all_jobs();
        greeted = false;
        (*at)++;
        return true;
    } else {
        if (incoming.size - *at < HEADER_SIZE + (size_t)size)
            return false;
        handle_frame(stream, type, channel, incoming.data + *at + HEADER_SIZE, size);
    }
    *at += HEADER_SIZE + (size_t)size;
    return true;
}

void frame_input(const uint8_t *data, size_t size) {
    size_t at = 0;
    put_raw(&incoming, data, size);
    while (take_frame(&at))
        ;
    if (at)
        drop_front(&incoming, at);
}
