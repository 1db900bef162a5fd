"""The one entry: every service's routes, log-in and users, the live stream, the page.

Port    base + 5 (6005)
Keys    gateway:audit; reads the image, `voltage:image` and what is published
Calls   get_active_alarms, command_list, voltage_version
Files   {data_dir}/gateway.db: users, sessions and one-time links, readable by the owner only
"""
