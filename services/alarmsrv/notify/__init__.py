"""Notification: who is told what about which alarms, by e-mail, webhook and MQTT."""
