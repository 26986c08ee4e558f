"""A bad line between two network devices: what it carries comes late, some of it never, and not in order.

line.py carry ONE OTHER SEED MILLISECONDS JITTER LOSS: carries frames between two devices until it is killed; says "ready".
line.py plain DEVICE...: has devices send packets as a real cable has them: with checksums, and no longer than allowed.
"""

import ctypes, fcntl, heapq, random, select, socket, struct, sys, time

SIOCETHTOOL = 0x8946
# Checksums left to the device, and what makes packets longer than a frame: TSO, GSO and GRO.
SWITCHES = (0x17, 0x1F, 0x24, 0x2C)
PACKET_OUTGOING = 4
EVERYTHING = 3


def plain(device):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for switch in SWITCHES:
            value = ctypes.create_string_buffer(struct.pack("II", switch, 0))
            request = struct.pack("16sP", device.encode(), ctypes.addressof(value))
            fcntl.ioctl(asked, SIOCETHTOOL, request.ljust(40, b"\0"))


def carry(devices, seed, delay, jitter, loss):
    ends = []
    for device in devices:
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING))
        end.bind((device, EVERYTHING))
        end.setblocking(False)
        ends.append(end)
    # Each way has draws of its own, so that one doesn't depend on what goes the other.
    draws = [random.Random(f"{seed} {way}") for way in range(2)]
    under_way, number = [], 0
    print("ready", flush=True)
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        ready, _, _ = select.select(ends, [], [], wait)
        for way, end in enumerate(ends):
            while end in ready:
                try:
                    frame, (_, _, kind, _, _) = end.recvfrom(65536)
                except BlockingIOError:
                    break
                if kind == PACKET_OUTGOING or draws[way].random() < loss:
                    continue
                arrives = time.monotonic() + delay + draws[way].uniform(0, jitter)
                number += 1
                heapq.heappush(under_way, (arrives, number, 1 - way, frame))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, to, frame = heapq.heappop(under_way)
            try:
                ends[to].send(frame)
            except OSError:
                # As on any line that is full, or that is taken down.
                pass


if sys.argv[1] == "plain":
    for device in sys.argv[2:]:
        plain(device)
else:
    one, other, seed, delay, jitter, loss = sys.argv[2:]
    carry((one, other), seed, float(delay) / 1000, float(jitter) / 1000, float(loss))
